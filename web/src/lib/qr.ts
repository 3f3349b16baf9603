// Owns turning a text into the shape of a QR code. It is drawn here, so that no other server sees what is in it.
import encodeQR from "qr";

/** A square of `size` modules a side, and the dark ones as the path of an SVG. */
export interface Shape {
  size: number;
  path: string;
}

/** The shape of `text`, with the light margin of four modules that ISO/IEC 18004 asks for. */
export function qrShape(text: string): Shape {
  const rows = encodeQR(text, "raw", { border: 4, ecc: "medium" });
  const dark = rows.flatMap((row, y) => row.flatMap((on, x) => (on ? [`M${x} ${y}h1v1h-1z`] : [])));
  return { size: rows.length, path: dark.join("") };
}
