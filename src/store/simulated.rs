//! The stores of the simulation, held to the conformance suite of the real ones, so that they behave alike. They are
//! the files that `tests/simulation` itself is built from.

use std::time::Duration;

#[path = "../../tests/simulation/stores/mod.rs"]
pub mod stores;

use stores::{
    dice::Dice,
    live::{Server, View},
    records::{Remote, Rows},
    table::Table,
    way::{Odds, Way},
};

use super::conformance::{self, live::Flush};
use crate::core::record::{Epoch, NodeId};

/// Returns a connection on which nothing goes wrong and that takes no time.
fn smooth() -> Way {
    let (errands, _) = tokio::sync::mpsc::unbounded_channel();
    Way::new(Dice::new(0), (Duration::ZERO, Duration::ZERO), Odds::default(), errands)
}

mod records {
    use super::*;

    async fn fresh() -> (Remote, ()) {
        (Remote::new(Rows::new("records", Table::new(false, None), None), smooth()), ())
    }

    conformance::record_store_promises!(fresh);
    conformance::retiring_store_promises!(fresh);
    conformance::shared_record_promises!(fresh);
}

mod journal {
    use super::*;

    async fn fresh() -> (Remote, ()) {
        (Remote::new(Rows::new("journal", Table::new(true, None), None), smooth()), ())
    }

    conformance::record_store_promises!(fresh);
}

mod live {
    use super::*;

    impl Flush for Server {
        fn flush(&self) {
            Self::flush(self);
        }
    }

    async fn fresh() -> (View, Server) {
        let server = Server::default();
        (View::new(server.clone(), smooth(), NodeId("node-a".into()), Epoch(1)), server)
    }

    conformance::live_store_promises!(fresh);
    conformance::lossy_live_store_promises!(fresh);
    conformance::shared_live_promises!(fresh);
}
