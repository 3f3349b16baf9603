//! Random rows and hashes, as something else than a gateway may have written them, given to their readers. `cargo xtask
//! fuzz` tries a million of each.

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{
    StoreError, sql_nodes,
    sql_rows::{self, Columns},
};

/// Generates the content of a column: our own words, and random text.
fn cell() -> impl Strategy<Value = Option<String>> {
    let known = select(vec![
        "",
        "019b7cc2-3f4e-7000-8000-000000000001",
        "active",
        "closed",
        "node_lost",
        "192.0.2.7",
        "::1",
        "gw-1",
        "1",
        "2",
        "-1",
        "9223372036854775807",
        "a/b.cast",
        "../../etc/passwd",
    ]);
    option::weighted(
        0.9,
        prop_oneof![3 => known.prop_map(str::to_owned), 1 => vec(any::<char>(), 0..6).prop_map(String::from_iter)],
    )
}

/// A row whose columns hold these generated values in their order.
struct Row(Vec<Option<String>>);

impl Row {
    fn at(&self, name: &str) -> Option<&str> {
        let sum: usize = name.bytes().map(usize::from).sum();
        self.0.get(sum % self.0.len().max(1))?.as_deref()
    }
}

impl Columns for Row {
    fn text(&self, name: &str) -> Result<Option<&str>, StoreError> {
        Ok(self.at(name))
    }

    fn number(&self, name: &str) -> Result<Option<i64>, StoreError> {
        self.at(name).map(|text| text.parse().map_err(|_| sql_rows::unreadable())).transpose()
    }
}

proptest! {
    #[test]
    fn any_row_of_the_journal_is_read_or_refused(cells in vec(cell(), 1..24)) {
        let row = Row(cells);
        if let Ok(record) = sql_rows::record(&row) {
            prop_assert!(record.rank() > 0);
        }
        sql_rows::transition(&row).ok();
        sql_rows::lease(&row).ok();
        sql_nodes::node(&row).ok();
        sql_nodes::command(&row).ok();
    }
}
