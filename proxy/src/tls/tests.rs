//! Configurations that are taken and refused, with files made for it.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::config::Config;
use crate::net::{Conn, Stream};

use super::*;

/// An authority, and a certificate for `localhost` that it has signed.
fn files() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_string()];
    let cert = CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
    for (name, text) in [
        ("ca.pem", ca.pem()),
        ("cert.pem", cert.pem()),
        ("key.pem", key.serialize_pem()),
        ("other.pem", KeyPair::generate().unwrap().serialize_pem()),
        ("empty.pem", String::new()),
        ("broken.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_string()),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn parse(dir: &TempDir, address: &str, lines: &str) -> Result<Config, KeyError> {
    let head = "coordinator = [\"http://127.0.0.1:1\"]\nhttp = \"127.0.0.1:0\"\n[[backend]]\nname = \"b\"\n\
                listen = \"127.0.0.1:0\"\nuser = \"u\"\npassword = \"p\"\n";
    let lines = lines.replace("DIR", &dir.path().to_string_lossy());
    Config::parse(&format!("{head}address = \"{address}\"\n{lines}"))
}

#[test]
fn what_is_right_is_taken() {
    let dir = files();
    let all = "listen_tls = { cert = 'DIR/cert.pem', key = 'DIR/key.pem', client_ca = 'DIR/ca.pem', require = true, \
               min_version = '1.3' }\nserver_tls = { mode = 'verify-identity', ca = 'DIR/ca.pem', \
               cert = 'DIR/cert.pem', key = 'DIR/key.pem' }";
    let config = parse(&dir, "localhost:3306", all).unwrap();
    let TlsOffer::Always(listen) = &config.backend[0].listen_tls else { panic!() };
    assert_eq!((listen.require, listen.min_version), (true, TlsVersion::V1_3));
    assert_eq!(config.backend[0].server_tls.mode, ServerTlsMode::VerifyIdentity);

    let none = parse(&dir, "unix:/s", "").unwrap();
    assert!(none.backend[0].listen_tls.needs_own_certificate());
    assert_eq!(none.backend[0].server_tls.mode, ServerTlsMode::AsClient);
    let off = parse(&dir, "h:1", "listen_tls = 'off'").unwrap();
    assert!(matches!(off.backend[0].listen_tls, TlsOffer::Off));
    let own = parse(&dir, "h:1", "listen_tls = { require = true, client_ca = 'DIR/ca.pem' }").unwrap();
    assert!(own.backend[0].listen_tls.needs_own_certificate());
    let identity = "server_tls = { cert = 'DIR/cert.pem', key = 'DIR/key.pem' }";
    let identity = parse(&dir, "unix:/s", identity).unwrap();
    assert_eq!(identity.backend[0].server_tls.mode, ServerTlsMode::AsClient);
    for mode in ["as-client", "disabled", "preferred", "required"] {
        parse(&dir, "[::1]:3306", &format!("server_tls = {{ mode = '{mode}' }}")).unwrap();
    }
    parse(&dir, "10.0.0.1:3306", "server_tls = { mode = 'verify-ca', ca = 'DIR/ca.pem' }").unwrap();
}

#[test]
fn what_is_wrong_is_named() {
    let dir = files();
    let listen = |rest: &str| format!("listen_tls = {{ cert = 'DIR/cert.pem', {rest} }}");
    for (address, lines, expected) in [
        ("h:1", listen("key = 'DIR/none.pem'"), "backend[0].listen_tls.key"),
        ("h:1", listen("key = 'DIR/empty.pem'"), "backend[0].listen_tls.key"),
        ("h:1", listen("key = 'DIR/other.pem'"), "backend[0].listen_tls.key"),
        ("h:1", listen("key = 'DIR/key.pem', client_ca = 'DIR/ca.pem'"), "backend[0].listen_tls.client_ca"),
        (
            "h:1",
            listen("key = 'DIR/key.pem', client_ca = 'DIR/empty.pem', require = true"),
            "backend[0].listen_tls.client_ca",
        ),
        ("h:1", listen("key = 'DIR/key.pem', nonsense = 1"), "listen_tls"),
        ("h:1", listen("key = 'DIR/key.pem', min_version = '1.1'"), "listen_tls"),
        ("h:1", "listen_tls = { cert = 'DIR/cert.pem' }".to_string(), "backend[0].listen_tls.key"),
        ("h:1", "listen_tls = { key = 'DIR/key.pem' }".to_string(), "backend[0].listen_tls.cert"),
        (
            "h:1",
            "listen_tls = { require = true, client_ca = 'DIR/empty.pem' }".to_string(),
            "backend[0].listen_tls.client_ca",
        ),
        ("h:1", "listen_tls = 'on'".to_string(), "listen_tls"),
        ("h:1", "listen_tls = true".to_string(), "listen_tls"),
        (
            "h:1",
            "listen_tls = { cert = 'DIR/empty.pem', key = 'DIR/key.pem' }".to_string(),
            "listen_tls.cert",
        ),
        (
            "h:1",
            "listen_tls = { cert = 'DIR/broken.pem', key = 'DIR/key.pem' }".to_string(),
            "listen_tls.cert",
        ),
        ("h:1", "server_tls = { mode = 'perhaps' }".to_string(), "server_tls"),
        ("h:1", "server_tls = { mode = 'required', nonsense = 1 }".to_string(), "server_tls"),
        ("h:1", "server_tls = { ca = 'DIR/ca.pem' }".to_string(), "backend[0].server_tls.ca"),
        ("h:1", "server_tls = { mode = 'verify-ca' }".to_string(), "backend[0].server_tls.ca"),
        ("h:1", "server_tls = { mode = 'verify-identity' }".to_string(), "backend[0].server_tls.ca"),
        (
            "h:1",
            "server_tls = { mode = 'verify-ca', ca = 'DIR/none.pem' }".to_string(),
            "backend[0].server_tls.ca",
        ),
        (
            "h:1",
            "server_tls = { mode = 'required', ca = 'DIR/ca.pem' }".to_string(),
            "backend[0].server_tls.ca",
        ),
        (
            "h:1",
            "server_tls = { mode = 'required', cert = 'DIR/cert.pem' }".to_string(),
            "backend[0].server_tls.key",
        ),
        (
            "h:1",
            "server_tls = { mode = 'required', key = 'DIR/key.pem' }".to_string(),
            "backend[0].server_tls.cert",
        ),
        (
            "h:1",
            "server_tls = { mode = 'disabled', cert = 'DIR/cert.pem', key = 'DIR/key.pem' }".to_string(),
            "backend[0].server_tls.cert",
        ),
        (
            "h:1",
            "server_tls = { mode = 'required', cert = 'DIR/cert.pem', key = 'DIR/other.pem' }".to_string(),
            "backend[0].server_tls.key",
        ),
        ("unix:/s", "server_tls = { mode = 'required' }".to_string(), "backend[0].server_tls.mode"),
        ("no host:1", "server_tls = { mode = 'required' }".to_string(), "backend[0].server_tls.mode"),
    ] {
        let KeyError { key, reason } = parse(&dir, address, &lines).unwrap_err();
        let key = key.unwrap();
        assert!(key.contains(expected), "{lines}: {key}: {reason}");
        assert!(!reason.contains('\n') && !reason.is_empty(), "{reason:?}");
    }
}

#[test]
fn a_reload_that_fails_changes_nothing() {
    let dir = files();
    let path = |name: &str| dir.path().join(name);
    let config =
        ListenTls { cert: Some(path("cert.pem")), key: Some(path("key.pem")), ..ListenTls::default() };
    let acceptor = Acceptor::new(config, None).unwrap();
    let first = acceptor.current.read().unwrap().clone();
    std::fs::copy(path("other.pem"), path("key.pem")).unwrap();
    assert_eq!(acceptor.reload().unwrap_err().key.as_deref(), Some("listen_tls.key"));
    assert!(Arc::ptr_eq(&first, &acceptor.current.read().unwrap()));
    let renewed = files();
    for name in ["cert.pem", "key.pem"] {
        std::fs::copy(renewed.path().join(name), path(name)).unwrap();
    }
    acceptor.reload().unwrap();
    assert!(!Arc::ptr_eq(&first, &acceptor.current.read().unwrap()));
}

/// Both sides of one connection, as the listener and as the server leg have it.
#[tokio::test]
async fn what_was_read_before_tls_belongs_to_it() {
    let dir = files();
    let path = |name: &str| dir.path().join(name);
    let config = ListenTls {
        cert: Some(path("cert.pem")),
        key: Some(path("key.pem")),
        min_version: TlsVersion::V1_3,
        ..ListenTls::default()
    };
    let acceptor = Acceptor::new(config, None).unwrap();
    let server_tls =
        ServerTls { mode: ServerTlsMode::VerifyIdentity, ca: Some(path("ca.pem")), ..ServerTls::default() };
    let connector = Connector::new(&server_tls, &Address::Tcp("localhost".into(), 1)).unwrap().unwrap();
    let (one, other) = tokio::net::UnixStream::pair().unwrap();
    let (mut one, other) = (Conn::new(Stream::Unix(one)), Conn::new(Stream::Unix(other)));
    let accept = async {
        // More is read than is needed to see that TLS begins
        one.fill_to(100).await.unwrap();
        let mut one = one.accept_tls(&acceptor.acceptor()).await.unwrap();
        one.fill_to(5).await.unwrap();
        let back = one.rbuf.split();
        one.write_all(&back).await.unwrap();
        one.shutdown().await;
    };
    let connect = async {
        let mut other = other.connect_tls(&connector).await.unwrap();
        assert!(other.is_tls());
        other.write_all(b"hello").await.unwrap();
        other.fill_to(5).await.unwrap();
        assert_eq!(other.rbuf.as_ref(), b"hello");
        assert_eq!(other.fill().await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    };
    tokio::join!(accept, connect);
}

#[tokio::test]
async fn words_before_tls_are_refused() {
    let connector = Connector::new(
        &ServerTls { mode: ServerTlsMode::Required, ..ServerTls::default() },
        &Address::Tcp("h".into(), 1),
    )
    .unwrap()
    .unwrap();
    let (one, mut other) = tokio::net::UnixStream::pair().unwrap();
    other.write_all(b"injected").await.unwrap();
    let mut one = Conn::new(Stream::Unix(one));
    one.fill().await.unwrap();
    let error = one.connect_tls(&connector).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    let mut sent = Vec::new();
    other.read_to_end(&mut sent).await.unwrap();
    assert!(sent.is_empty());
}
