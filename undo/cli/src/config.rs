//! Which server to read undo logs from: a backend of `proxy.toml`, or a DSN.

use std::path::Path;

use atone_config::{Address, KeyError, Password, Section, ServerTls, ServerTlsMode};
use mysql_async::{ClientIdentity, Opts, OptsBuilder, SslOpts};

use crate::Failure;
use crate::args::Source;

/// What is read of a `[[backend]]`; the proxy itself is strict about the rest.
struct Backend {
    name: String,
    address: Address,
    user: String,
    password: Option<Password>,
    server_tls: ServerTls,
}

impl Backend {
    fn read(mut section: Section) -> Result<Backend, KeyError> {
        Ok(Backend {
            name: section.required("name")?,
            address: section.required("address")?,
            user: section.required("user")?,
            password: section.password()?,
            server_tls: ServerTls::read(section.section("server_tls")?)?,
        })
    }
}

/// The backends of `proxy.toml`.
fn backends(text: &str) -> Result<Vec<Backend>, KeyError> {
    Section::parse(text)?.sections("backend")?.into_iter().map(Backend::read).collect()
}

/// What `server_tls` comes to, as for the proxy's service account.
fn tls_options(tls: &ServerTls) -> Option<SslOpts> {
    let mut options = SslOpts::default();
    match tls.mode {
        ServerTlsMode::Disabled => return None,
        ServerTlsMode::AsClient | ServerTlsMode::Preferred | ServerTlsMode::Required => {
            options = options.with_danger_accept_invalid_certs(true);
        }
        ServerTlsMode::VerifyCa => {
            // The driver finds an error about the name by this word in its text, where rustls has the expected name
            options = options
                .with_danger_skip_domain_validation(true)
                .with_danger_tls_hostname_override(Some("NotValidForName"));
        }
        ServerTlsMode::VerifyIdentity => {}
    }
    // Only the modes that verify have one
    if let Some(ca) = &tls.ca {
        options = options.with_root_certs(vec![ca.clone().into()]).with_disable_built_in_roots(true);
    }
    if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
        options =
            options.with_client_identity(Some(ClientIdentity::new(cert.clone().into(), key.clone().into())));
    }
    Some(options)
}

/// How to log in to the server.
pub(crate) struct Server {
    /// As it is wanted.
    pub(crate) opts: Opts,
    /// For a server that does not offer TLS, where it may do without.
    pub(crate) plain: Option<Opts>,
}

/// Finds out how to log in to the server.
pub(crate) fn server(source: &Source) -> Result<Server, Failure> {
    match (&source.dsn, &source.config) {
        (Some(dsn), _) => {
            // The DSN holds a password: it must not show in the message.
            let opts = Opts::from_url(dsn).map_err(|error| Failure::Usage(format!("--dsn: {error}")))?;
            Ok(Server { opts, plain: None })
        }
        (None, Some(path)) => from_file(path, source.resource.as_deref()),
        (None, None) => Err(Failure::Usage("give --config or --dsn".to_owned())),
    }
}

fn from_file(path: &Path, resource: Option<&str>) -> Result<Server, Failure> {
    let backends = atone_config::load(path, backends).map_err(|error| Failure::Usage(error.to_string()))?;
    let refused = |why: String| Failure::Usage(format!("{}: {why}", path.display()));
    let backend = select(&backends, resource).map_err(refused)?;
    let opts = options(backend).map_err(|error| refused(error.to_string()))?;
    let may_be_plain = matches!(backend.server_tls.mode, ServerTlsMode::AsClient | ServerTlsMode::Preferred);
    let plain = may_be_plain.then(|| OptsBuilder::from_opts(opts.clone()).ssl_opts(None).into());
    Ok(Server { opts, plain })
}

fn select<'a>(backends: &'a [Backend], resource: Option<&str>) -> Result<&'a Backend, String> {
    let names = || backends.iter().map(|b| b.name.as_str()).collect::<Vec<_>>().join(", ");
    match (resource, backends) {
        (None, [only]) => Ok(only),
        (None, _) => Err(format!("there are several backends: give --resource ({})", names())),
        (Some(name), _) => backends
            .iter()
            .find(|b| b.name == name)
            .ok_or_else(|| format!("there is no backend {name:?} (there are: {})", names())),
    }
}

fn options(backend: &Backend) -> Result<Opts, KeyError> {
    let password = backend.password.as_ref().map(Password::read).transpose()?;
    let builder = OptsBuilder::default().user(Some(backend.user.clone())).pass(password);
    let builder = match &backend.address {
        Address::Unix(path) => builder.socket(Some(path.display().to_string())),
        // The server would offer its own socket path, which may be another server's on this machine
        Address::Tcp(host, port) => builder
            .ip_or_hostname(host.clone())
            .tcp_port(*port)
            .prefer_socket(false)
            .ssl_opts(tls_options(&backend.server_tls)),
    };
    Ok(builder.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The options of the first backend.
    fn first(lines: &str) -> Result<Opts, KeyError> {
        let all = backends(&format!("[[backend]]\nname = 'a'\nuser = 'u'\n{lines}"))?;
        options(&all[0])
    }

    #[test]
    fn backends_are_found_by_name() {
        let all = backends(
            r#"
            coordinator = ["http://127.0.0.1:7091"]
            [[backend]]
            name = "bank1"
            listen = "127.0.0.1:4001"
            address = "127.0.0.1:3306"
            user = "atone"
            password = "secret"
            [[backend]]
            name = "bank2"
            address = "unix:/run/my.sock"
            user = "atone"
            "#,
        )
        .unwrap();
        let first = options(select(&all, Some("bank1")).unwrap()).unwrap();
        assert_eq!(
            (first.ip_or_hostname(), first.tcp_port(), first.pass()),
            ("127.0.0.1", 3306, Some("secret"))
        );
        let second = options(select(&all, Some("bank2")).unwrap()).unwrap();
        assert_eq!(second.socket(), Some("/run/my.sock"));
        assert!(select(&all, None).is_err_and(|e| e.contains("bank1, bank2")));
        assert!(select(&all, Some("x")).is_err());
        assert!(select(&all[..1], None).is_ok());
        assert!(select(&[], None).is_err());
    }

    #[test]
    fn bad_addresses_and_passwords() {
        for (lines, reason) in [
            ("address = 'localhost'", "no port"),
            ("address = 'localhost:x'", "valid port"),
            ("address = 'h:1'\npassword = 'a'\npassword_env = 'B'", "only one"),
            ("address = 'h:1'\npassword_env = 'ATONE_TEST_NOT_SET'", "not set"),
            ("address = 'h:1'\npassword_file = '/nonexistent/atone'", "password_file"),
        ] {
            let error = first(lines).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let options = first("address = '[::1]:3307'").unwrap();
        assert!(options.ssl_opts().is_some());
        assert_eq!(options.ip_or_hostname(), "::1");
    }

    #[test]
    fn the_password_of_a_bad_dsn_is_not_shown() {
        let source = Source {
            config: None,
            resource: None,
            dsn: Some("mysql://u:hunter2@h:99999/".to_owned()),
            schema: None,
        };
        let Err(Failure::Usage(why)) = server(&source).map(|_| ()) else { panic!() };
        assert!(!why.contains("hunter2"), "{why}");
    }

    #[test]
    fn tls_is_the_proxys() {
        let tls = |lines: &str| {
            first(&format!("address = 'h:1'\nserver_tls = {{ {lines} }}"))
                .map(|opts| opts.ssl_opts().cloned())
        };
        assert!(tls("mode = 'disabled'").unwrap().is_none());
        assert!(tls("").unwrap().unwrap().accept_invalid_certs());
        assert!(tls("mode = 'required'").unwrap().unwrap().accept_invalid_certs());
        let checked = tls("mode = 'verify-identity', ca = 'ca.pem'").unwrap().unwrap();
        assert!(!checked.accept_invalid_certs() && !checked.skip_domain_validation());
        assert_eq!(checked.root_certs().len(), 1);
        assert!(checked.disable_built_in_roots());
        let any_name = tls("mode = 'verify-ca', ca = 'ca.pem'").unwrap().unwrap();
        assert!(!any_name.accept_invalid_certs() && any_name.skip_domain_validation());
        assert!(tls("mode = 'verify-ca'").is_err());
    }
}
