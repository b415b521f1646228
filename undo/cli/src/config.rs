//! Which server to read undo logs from: a backend of `proxy.toml`, or a DSN.

use std::path::{Path, PathBuf};

use mysql_async::{ClientIdentity, Opts, OptsBuilder, SslOpts};
use serde::Deserialize;

use crate::Failure;
use crate::args::Source;

/// What is read of `proxy.toml`; the proxy itself is strict about the rest.
#[derive(Deserialize)]
struct ProxyConfig {
    #[serde(default)]
    backend: Vec<Backend>,
}

#[derive(Deserialize)]
struct Backend {
    name: String,
    address: String,
    user: String,
    password: Option<String>,
    password_file: Option<PathBuf>,
    password_env: Option<String>,
    #[serde(default)]
    server_tls: ServerTls,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ServerTls {
    mode: TlsMode,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TlsMode {
    #[default]
    AsClient,
    Disabled,
    Preferred,
    Required,
    VerifyCa,
    VerifyIdentity,
}

/// What `server_tls` comes to, as for the proxy's service account.
fn tls_options(tls: &ServerTls) -> Result<Option<SslOpts>, String> {
    let mut options = SslOpts::default();
    match tls.mode {
        TlsMode::Disabled => return Ok(None),
        TlsMode::AsClient | TlsMode::Preferred | TlsMode::Required => {
            options = options.with_danger_accept_invalid_certs(true);
        }
        TlsMode::VerifyCa => {
            // The driver finds an error about the name by this word in its text, where rustls has the expected name
            options = options
                .with_danger_skip_domain_validation(true)
                .with_danger_tls_hostname_override(Some("NotValidForName"));
        }
        TlsMode::VerifyIdentity => {}
    }
    match (tls.mode, &tls.ca) {
        (TlsMode::AsClient | TlsMode::Preferred | TlsMode::Required, _) => {}
        (_, Some(ca)) => {
            options = options.with_root_certs(vec![ca.clone().into()]).with_disable_built_in_roots(true);
        }
        (_, None) => return Err("server_tls needs ca".to_owned()),
    }
    if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
        options =
            options.with_client_identity(Some(ClientIdentity::new(cert.clone().into(), key.clone().into())));
    }
    Ok(Some(options))
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
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| Failure::Usage(format!("{shown}: {e}")))?;
    let config: ProxyConfig =
        toml::from_str(&text).map_err(|e| Failure::Usage(format!("{shown}: {}", e.message())))?;
    let backend =
        select(&config.backend, resource).map_err(|why| Failure::Usage(format!("{shown}: {why}")))?;
    let opts = options(backend)
        .map_err(|why| Failure::Usage(format!("{shown}: backend {:?}: {why}", backend.name)))?;
    let may_be_plain = matches!(backend.server_tls.mode, TlsMode::AsClient | TlsMode::Preferred);
    let plain = may_be_plain.then(|| OptsBuilder::from_opts(opts.clone()).ssl_opts(None).into());
    Ok(Server { opts, plain })
}

fn select<'a>(backends: &'a [Backend], resource: Option<&str>) -> Result<&'a Backend, String> {
    let names = || backends.iter().map(|b| b.name.as_str()).collect::<Vec<_>>().join(", ");
    match (resource, backends) {
        (_, []) => Err("there is no [[backend]]".to_owned()),
        (None, [only]) => Ok(only),
        (None, _) => Err(format!("there are several backends: give --resource ({})", names())),
        (Some(name), _) => backends
            .iter()
            .find(|b| b.name == name)
            .ok_or_else(|| format!("there is no backend {name:?} (there are: {})", names())),
    }
}

fn options(backend: &Backend) -> Result<Opts, String> {
    let password = match (&backend.password, &backend.password_file, &backend.password_env) {
        (None, None, None) => None,
        (Some(password), None, None) => Some(password.clone()),
        (None, Some(file), None) => {
            let text = std::fs::read_to_string(file)
                .map_err(|e| format!("password_file {}: {e}", file.display()))?;
            Some(text.trim_end_matches(['\r', '\n']).to_owned())
        }
        (None, None, Some(name)) => {
            Some(std::env::var(name).map_err(|_| format!("password_env: {name} is not set"))?)
        }
        _ => return Err("give only one of password, password_file, password_env".to_owned()),
    };
    let builder = OptsBuilder::default().user(Some(backend.user.clone())).pass(password);
    let builder = match backend.address.strip_prefix("unix:") {
        Some(path) => builder.socket(Some(path.to_owned())),
        None => {
            let (host, port) = backend
                .address
                .rsplit_once(':')
                .ok_or_else(|| format!("address {:?} has no port", backend.address))?;
            let port =
                port.parse().map_err(|_| format!("address {:?} has no valid port", backend.address))?;
            let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
            // The server would offer its own socket path, which may be another server's on this machine.
            builder
                .ip_or_hostname(host.to_owned())
                .tcp_port(port)
                .prefer_socket(false)
                .ssl_opts(tls_options(&backend.server_tls)?)
        }
    };
    Ok(builder.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ProxyConfig {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn backends_are_found_by_name() {
        let config = parse(
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
        );
        let first = options(select(&config.backend, Some("bank1")).unwrap()).unwrap();
        assert_eq!(
            (first.ip_or_hostname(), first.tcp_port(), first.pass()),
            ("127.0.0.1", 3306, Some("secret"))
        );
        let second = options(select(&config.backend, Some("bank2")).unwrap()).unwrap();
        assert_eq!(second.socket(), Some("/run/my.sock"));
        assert!(select(&config.backend, None).is_err_and(|e| e.contains("bank1, bank2")));
        assert!(select(&config.backend, Some("x")).is_err());
        assert!(select(&config.backend[..1], None).is_ok());
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
            let config = parse(&format!("[[backend]]\nname = 'a'\nuser = 'u'\n{lines}"));
            let error = options(&config.backend[0]).map(|_| ()).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        let config = parse("[[backend]]\nname = 'a'\nuser = 'u'\naddress = '[::1]:3307'");
        assert!(options(&config.backend[0]).unwrap().ssl_opts().is_some());
        assert_eq!(options(&config.backend[0]).unwrap().ip_or_hostname(), "::1");
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
            let config = parse(&format!(
                "[[backend]]\nname = 'a'\nuser = 'u'\naddress = 'h:1'\nserver_tls = {{ {lines} }}"
            ));
            options(&config.backend[0]).map(|opts| opts.ssl_opts().cloned())
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
