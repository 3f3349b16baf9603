//! Tests of the frames a browser may send, and of the errors for others.

use super::*;

#[test]
fn reads_what_the_contract_shows() {
    for frame in [
        r#"{"type":"attach","cols":80,"rows":24,"mode":"interactive","client_id":"c","output_offset":5,"input_offset":null}"#,
        r#"{"type":"attach","cols":80,"rows":24,"mode":"observe","client_id":"c"}"#,
        r#"{"type":"attach","cols":80,"rows":24,"mode":"observe","client_id":"c","screen":true}"#,
        r#"{"type":"attach","cols":80,"rows":24,"mode":"interactive","client_id":"c","again":true}"#,
        r#"{"type":"ack","output_offset":7}"#,
        r#"{"type":"resize","cols":120,"rows":40}"#,
        r#"{"type":"answer","id":1,"values":["secret"]}"#,
        r#"{"type":"stay"}"#,
        r#"{"type":"close"}"#,
        r#"{"type":"attach","cols":80,"rows":24,"mode":"observe","client_id":"c","screen":true,"control":true}"#,
        r#"{"type":"request_control"}"#,
        r#"{"type":"take_control"}"#,
        r#"{"type":"return_control"}"#,
        r#"{"type":"grant_control","id":7}"#,
        r#"{"type":"refuse_control","id":7}"#,
        r#"{"type":"typing","turn":3}"#,
    ] {
        read(frame.as_bytes()).unwrap_or_else(|error| panic!("{frame}: {error}"));
    }
}

#[test]
fn refuses_what_it_does_not_know() {
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    for frame in [
        "",
        "{}",
        "null",
        r#"["close"]"#,
        r#"{"type":"attach"}"#,
        r#"{"type":"destroy"}"#,
        r#"{"type":"ack","output_offset":-1}"#,
        r#"{"type":"ack","output_offset":1e400}"#,
        r#"{"type":"ack","output_offset":1,"output_offset":2}"#,
        r#"{"type":"resize","cols":80,"rows":24,"depth":3}"#,
        r#"{"type":"stay","why":"\ud800"}"#,
        r#"{"type":"grant_control","id":-1}"#,
        r#"{"type":"grant_control","name":"eve"}"#,
        r#"{"type":"typing"}"#,
        &deep,
    ] {
        assert!(read(frame.as_bytes()).is_err(), "{frame}");
    }
}

#[test]
fn never_shows_an_answer() {
    let frame: BrowserFrame = serde_json::from_str(r#"{"type":"answer","id":1,"values":["hunter2"]}"#).unwrap();
    assert!(!format!("{frame:?}").contains("hunter2"));
}
