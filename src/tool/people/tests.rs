//! Tests of the lists that an operator reads.

use super::*;

#[test]
fn a_list_shows_what_a_name_of_an_earlier_release_hides() {
    let token = Token {
        id: "0123456789abcdef".to_owned(),
        name: "ci\u{202e}".to_owned(),
        user: "ada".to_owned(),
        digest: token_digest("secret"),
        scopes: None,
        created_at: UtcMicros(1),
        expires_at: None,
        last_used_at: None,
    };
    let grants = vec!["tag:\u{202e}prod".parse().unwrap()];
    let user = User::new("ada".to_owned(), Role::User, grants, String::new(), UtcMicros(1));
    let directory = Directory {
        users: [(user.name.clone(), user)].into(),
        tokens: [(token.id.clone(), token)].into(),
        ..Directory::default()
    };
    for (listed, shown) in [(list_tokens(&directory), r"ci\u{202e}"), (list_users(&directory), r"tag:\u{202e}prod")] {
        let text = listed.unwrap().text;
        assert!(text.contains(shown) && !text.contains('\u{202e}'), "{text:?}");
    }
}
