//! Negative controls: without any one guard of the Redis view, a test of a promise must fail.

use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::future::BoxFuture;

use super::{
    Guards, RedisLive, Script,
    lab::Ports,
    tests::{guarded, one_server},
};
use crate::store::conformance::{
    Fresh,
    live::{self, Flush},
};

/// Whether a view with these guards breaks a promise.
fn breaks(promise: impl Fn(Fresh<RedisLive, Ports>), guards: fn() -> Guards) -> Option<bool> {
    let server = one_server()?;
    let fresh = || {
        let ports = Ports(vec![server.port]);
        ports.flush();
        let view = guarded(&server.url(), 1, guards());
        Box::pin(async { (view, ports) }) as BoxFuture<'static, (RedisLive, Ports)>
    };
    Some(catch_unwind(AssertUnwindSafe(|| promise(&fresh))).is_err())
}

/// Returns the guards with one part of `apply.lua` removed.
fn without(guard: &str) -> Guards {
    let guards = Guards::default();
    let text = guards.apply.text.replace(guard, "");
    assert_ne!(text, guards.apply.text);
    Guards { apply: Script::new(text), ..guards }
}

#[test]
fn the_promises_notice_that_the_last_writer_wins() {
    let last_writer_wins = || without("above and ");
    for promise in
        [live::the_order_of_announcements_does_not_matter, live::a_late_record_never_reopens_a_closed_session]
    {
        assert_ne!(breaks(promise, last_writer_wins), Some(false));
        assert_ne!(breaks(promise, Guards::default), Some(true));
    }
}

#[test]
fn the_promises_notice_beats_that_open_sessions_or_go_back() {
    let opens = || Guards { beat: &["GT"], ..Guards::default() };
    let goes_back = || Guards { beat: &["XX"], ..Guards::default() };
    assert_ne!(breaks(live::a_beat_brings_nothing_back, opens), Some(false));
    assert_ne!(breaks(live::the_order_of_beats_does_not_matter, goes_back), Some(false));
}

#[test]
fn the_promises_notice_a_lease_that_does_not_count_writes() {
    let hides = || without("and redis.call('GET', lease) == left ");
    assert_ne!(breaks(live::a_write_does_not_hide_the_flush_before_it, hides), Some(false));
}
