//! The statements that both SQL stores run as they are: the plan of each is checked on each server.

use crate::store::{people, sign_ins, sql_nodes, sql_rows, targets};

/// Statements that look up some rows.
pub const LOOK_UP: [&str; 31] = [
    sql_nodes::LEASE,
    sql_nodes::FENCE,
    sql_nodes::LEAVE,
    sql_nodes::VIEW_KEY,
    sql_rows::HISTORY,
    sql_rows::OLDEST,
    sql_rows::NEWEST,
    sql_rows::LENGTH,
    people::VERSION,
    people::COUNT_UP,
    people::ONE_USER,
    people::REPLACE_USER,
    people::REMOVE_USER,
    people::REMOVE_ORPHANS,
    people::REMOVE_TOKEN,
    people::SIGNED_IN,
    people::USED,
    targets::ONE_TARGET,
    targets::REPLACE_TARGET,
    targets::REMOVE_TARGET,
    sign_ins::OF_USER,
    sign_ins::ENDED,
    sign_ins::END_ONE,
    sign_ins::END_ALL,
    sign_ins::END_GONE,
    sign_ins::END_BY_PROVIDER,
    sign_ins::END_SESSION,
    sign_ins::END_OF_TOKEN,
    sign_ins::END_UNFIT,
    sign_ins::EXPECT,
    sign_ins::NOTE,
];
