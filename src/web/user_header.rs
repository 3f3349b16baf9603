//! The user whom a proxy in front signed in itself and names in a header. Trusted only from the proxies that the
//! configuration lists, by the address at the other end of the connection: forwarding headers do not count here.

use std::sync::Arc;

use actix_web::HttpRequest;

use super::{
    client,
    error::{Problem, quoted},
    state::State,
};
use crate::core::{
    audit::{Action, Deed},
    people::{Directory, USER_NAME, is_user_name},
};

/// Returns the user whom a proxy names; `None` without such a header, or if it comes from another peer.
///
/// # Errors
/// 401 if the proxy names nobody who may sign in here: an unknown or disabled user, more than one, or no valid name.
pub fn user(request: &HttpRequest, state: &State, directory: &Directory) -> Result<Option<Arc<str>>, Problem> {
    let Some(header) = &state.settings.user_header else { return Ok(None) };
    let peer = client::peer_ip(request);
    if !header.from.iter().any(|network| network.contains(&peer)) {
        return Ok(None);
    }
    let mut values = request.headers().get_all(&header.name);
    let (Some(value), more) = (values.next(), values.next()) else { return Ok(None) };
    let name = value.to_str().ok().filter(|name| more.is_none() && is_user_name(name));
    let name = name.ok_or_else(|| {
        Problem::nobody_named(format!("The proxy in front must name one user in {}, once: {USER_NAME}.", header.name))
    })?;
    // Looked up among the users, not by their access: the holder of the gateway's own token is no user.
    if directory.users.get(name).is_none_or(|user| !user.may_sign_in()) {
        return Err(Problem::nobody_named(format!(
            "The proxy in front signed you in as {}, who may not sign in here. Ask your administrator.",
            quoted(name)
        )));
    }
    let name: Arc<str> = name.into();
    tell(request, state, &name);
    Ok(Some(name))
}

/// Tells the audit log of this user once an hour: each request is a sign-in of its own.
fn tell(request: &HttpRequest, state: &State, name: &Arc<str>) {
    let address = client::client_ip(request, &state.settings);
    if !state.named.is_news(state.now(), (name.clone(), address)) {
        return;
    }
    state.gateway.people().saw_user(name);
    state.gateway.audit().note(Deed::done(Action::SignIn, name, address, name, "Named by a trusted proxy."));
}

#[cfg(test)]
mod tests {
    use actix_web::{ResponseError, http::header::HeaderName, test::TestRequest};

    use super::*;
    use crate::web::{
        fixture::{settings, state_with},
        state::{Settings, UserHeader},
    };

    fn named(peer: &str, headers: &[(&'static str, &'static str)]) -> Result<Option<String>, u16> {
        let from = vec!["10.0.0.0/8".parse().unwrap()];
        let user_header = Some(UserHeader { name: HeaderName::from_static("remote-user"), from });
        let state = state_with(Settings { user_header, ..settings() });
        let request = TestRequest::default().peer_addr(peer.parse().unwrap());
        let request = headers.iter().fold(request, |request, header| request.append_header(*header)).to_http_request();
        let found = user(&request, &state, &state.gateway.people().directory());
        found.map(|name| name.map(|name| name.to_string())).map_err(|problem| problem.status_code().as_u16())
    }

    #[actix_rt::test]
    async fn a_user_is_named_by_a_listed_proxy_only() {
        let name = ("remote-user", "viewer");
        assert_eq!(named("10.0.0.1:1", &[name]), Ok(Some("viewer".to_owned())));
        assert_eq!(named("[::ffff:10.0.0.1]:1", &[name]), Ok(Some("viewer".to_owned())));
        assert_eq!(named("192.0.2.1:1", &[name]), Ok(None));
        assert_eq!(named("192.0.2.1:1", &[name, ("x-forwarded-for", "10.0.0.1")]), Ok(None));
        assert_eq!(named("10.0.0.1:1", &[]), Ok(None));
    }

    #[actix_rt::test]
    async fn a_proxy_names_one_user_who_is_there_and_no_administrator_by_token() {
        for wrong in ["nobody", "admin", "viewer, user", "viewer,", "", " ", "VIEWER"] {
            assert_eq!(named("10.0.0.1:1", &[("remote-user", wrong)]), Err(401), "{wrong:?}");
        }
        assert_eq!(named("10.0.0.1:1", &[("remote-user", "viewer"), ("remote-user", "viewer")]), Err(401));
    }
}
