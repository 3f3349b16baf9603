"""What schemathesis is told about the gateway beyond its document."""

import itertools

import schemathesis

# After ten wrong tokens from one address others are a 429 for a minute, which is right; so each request comes from its own.
ADDRESSES = (f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}" for n in itertools.count(1))


@schemathesis.hook
def before_call(context, case, **kwargs):
    case.headers = {**(case.headers or {}), "X-Forwarded-For": next(ADDRESSES)}
    # A cursor carries a checksum, which no schema can say: a made-up one is refused, as the unit tests hold. Where a
    # request is to be accepted it goes without.
    if case.meta and case.meta.generation.mode.is_positive and case.query:
        case.query.pop("cursor", None)
    # No schema can say what a private key is, either.
    auth = case.body.get("auth") if isinstance(case.body, dict) else None
    if case.meta and case.meta.generation.mode.is_positive and isinstance(auth, dict) and auth.get("kind") == "private_key":
        case.body = {**case.body, "auth": {"kind": "agent"}}
