//! The first words on standard output: where browsers find a gateway that is now ready. Does not know how it serves.

use std::net::SocketAddr;

use crate::console;

/// Instructions for the link to the first admin.
const HOW_TO_BEGIN: &str = "Nobody administers this gateway yet. Whoever opens this link first, within 30 minutes, chooses a name \
    and a password and becomes its admin. Later: start it again, or `pulsegate user add NAME --role admin`.";

/// A gateway that is now ready.
pub struct Greeting<'a> {
    /// The address that browsers use, if it is configured.
    pub public_url: Option<&'a str>,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The address listened on.
    pub listens: SocketAddr,
    /// The path of a link that signs in.
    pub link: Option<String>,
    /// SHA-256 of a certificate that no authority vouches for.
    pub fingerprint: Option<String>,
    /// Whether nobody administers it.
    pub is_new: bool,
}

impl Greeting<'_> {
    /// Prints it; the gateway serves also where that fails.
    pub fn print(&self) {
        if let Err(error) = console::say(&self.text()) {
            tracing::warn!(%error, "where to find the gateway cannot be written to standard output");
        }
    }

    /// Returns it in lines for people.
    fn text(&self) -> String {
        let mut lines = Vec::new();
        if let Some(fingerprint) = &self.fingerprint {
            lines.push(format!(
                "Its certificate is its own; trust it in your browser if it shows SHA-256 {fingerprint}"
            ));
        }
        // An operator who puts a proxy in front looks for the port.
        let listening = self.public_url.filter(|_| self.link.is_none());
        let listening = listening.map(|_| format!(", listening on {}", self.listening())).unwrap_or_default();
        lines.push(format!("Pulsegate is ready: {}{listening}", self.ready()));
        if self.public_url.is_none() && self.listens.ip().is_unspecified() {
            let note = "It listens on every address of this host; set server.public_url to where browsers find it.";
            lines.push(note.to_owned());
        }
        if self.is_new {
            lines.push(HOW_TO_BEGIN.to_owned());
        }
        lines.join("\n")
    }

    /// Returns the address at which browsers find the gateway, with a link to sign in by: the cookie is valid for that
    /// name only, and the gateway may not answer under another.
    fn ready(&self) -> String {
        let origin = match self.public_url {
            Some(url) => url.to_owned(),
            // No browser opens the unspecified address.
            None if self.listens.ip().is_unspecified() => {
                format!("{}://localhost:{}", self.scheme, self.listens.port())
            }
            None => self.listening(),
        };
        origin + self.link.as_deref().unwrap_or_default()
    }

    fn listening(&self) -> String {
        format!("{}://{}", self.scheme, self.listens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting<'a>(public_url: Option<&'a str>, listens: &str, link: Option<&str>) -> Greeting<'a> {
        let (listens, link) = (listens.parse().unwrap(), link.map(str::to_owned));
        Greeting { public_url, scheme: "http", listens, link, fingerprint: None, is_new: false }
    }

    #[test]
    fn what_is_said_first_is_an_address_that_a_browser_opens() {
        let told = |public_url, listens: &str, link: Option<&str>| {
            let text = greeting(public_url, listens, link).text();
            text.lines().next().unwrap().strip_prefix("Pulsegate is ready: ").unwrap().to_owned()
        };
        let (public_url, here, link) = (Some("https://ssh.example.org"), "127.0.0.1:8022", Some("/#sign-in=once"));
        assert_eq!(told(None, here, None), "http://127.0.0.1:8022");
        assert_eq!(told(None, here, link), "http://127.0.0.1:8022/#sign-in=once");
        assert_eq!(told(public_url, here, link), "https://ssh.example.org/#sign-in=once");
        assert_eq!(told(public_url, here, None), "https://ssh.example.org, listening on http://127.0.0.1:8022");
        assert_eq!(told(None, "0.0.0.0:18443", link), "http://localhost:18443/#sign-in=once");
        assert_eq!(told(None, "[::]:18443", None), "http://localhost:18443");
    }

    #[test]
    fn what_a_person_has_to_know_stands_beside_it() {
        let greeting = Greeting {
            fingerprint: Some("AB:CD".to_owned()),
            is_new: true,
            ..greeting(None, "0.0.0.0:8022", Some("/#/setup/x"))
        };
        let text = greeting.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].ends_with("SHA-256 AB:CD"), "{text}");
        assert!(lines[2].contains("server.public_url") && lines[3] == HOW_TO_BEGIN, "{text}");
    }
}
