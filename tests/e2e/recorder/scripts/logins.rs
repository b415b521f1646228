//! Logins and changes of user. `{s}` in an account's name is the script's schema, which is each setting's own.

use atone_tests::server::{APP, RAW};
use atone_tests::wire::{Login, caps};

use super::ACCOUNT;
use crate::script::{Matrix, May, Script, bytes, change_user, open, packet, ping, prepare, q, script};

const RIGHTS: &str = "GRANT SELECT, INSERT, UPDATE, DELETE ON `{s}`.* TO 'u_{s}'@'%'";

/// As the script's own account.
fn own(login: &mut Login) {
    login.user = format!("u_{}", login.schema.clone().unwrap_or_default());
    login.password = "own-pw".to_owned();
}

fn wrong(login: &mut Login) {
    own(login);
    login.password = "wrong".to_owned();
}

/// A script whose account is made by this.
fn account(name: &'static str, covers: &'static [&'static str], identified: &str) -> Script {
    script(name, covers).setup(&[
        "DROP USER IF EXISTS 'u_{s}'@'%'",
        &format!("CREATE USER 'u_{{s}}'@'%' {identified}"),
        RIGHTS,
    ])
}

pub(crate) fn scripts() -> Vec<Script> {
    let native = "IDENTIFIED VIA mysql_native_password USING PASSWORD('own-pw')";
    let ed25519 = "IDENTIFIED VIA ed25519 USING PASSWORD('own-pw')";
    let sha2 = "IDENTIFIED WITH caching_sha2_password BY 'own-pw'";
    let both = "IDENTIFIED BY 'own-pw'";
    let who = || q("SELECT CURRENT_USER(), USER(), DATABASE()");
    vec![
        account("native", &["mysql_native_password"], native).mariadb().steps(vec![
            open("right", own),
            who(),
            open("wrong", wrong).by('b'),
            open("no password", |login| {
                own(login);
                login.password = String::new();
            })
            .by('c'),
        ]),
        account("ed25519", &["client_ed25519"], ed25519).mariadb().steps(vec![
            open("right", own),
            who(),
            open("wrong", wrong).by('b'),
            change_user("to itself", own),
            who(),
            change_user("to another plugin", |_| {}),
            who(),
            change_user("back", own),
            who(),
        ]),
        account("either_plugin", &["client_ed25519", "mysql_native_password", "auth switch"], &format!("{ed25519} OR mysql_native_password USING PASSWORD('other-pw')"))
            .mariadb()
            .steps(vec![
                open("by the first", own),
                who(),
                open("by the second", |login| {
                    own(login);
                    login.password = "other-pw".to_owned();
                })
                .by('b'),
                who().by('b'),
                open("by none", wrong).by('c'),
            ]),
        account("unix_socket", &["unix_socket"], "IDENTIFIED VIA unix_socket").mariadb().steps(vec![open("over TCP", own)]),
        account("no_such_plugin", &["auth switch"], native).mariadb().steps(vec![
            open("the client begins with a plugin that is not", |login| {
                own(login);
                login.plugin = Some("nosuch_plugin".to_owned());
            }),
            who(),
        ]),
        account("sha2", &["caching_sha2_password"], sha2).mysql().steps(vec![
            open("in full", own),
            who(),
            open("cached", own).by('b'),
            who().by('b'),
            open("wrong", wrong).by('c'),
            open("no password", |login| {
                own(login);
                login.password = String::new();
            })
            .by('d'),
            open("beginning with another plugin", |login| {
                own(login);
                login.plugin = Some("mysql_clear_password".to_owned());
            })
            .by('e'),
            who().by('e'),
        ]),
        account("sha256", &["sha256_password"], "IDENTIFIED WITH sha256_password BY 'own-pw'").mysql().steps(vec![
            open("right", own),
            who(),
            open("wrong", wrong).by('b'),
        ]),
        account("no_login", &["mysql_no_login"], "IDENTIFIED WITH mysql_no_login").mysql().steps(vec![open("at all", own)]),
        account("auth_socket", &["auth_socket"], "IDENTIFIED WITH auth_socket").mysql().steps(vec![open("over TCP", own)]),
        script("no_password", &["an empty password"]).steps(vec![
            open("right", |login| (login.user, login.password) = (RAW.to_owned(), String::new())),
            q("SELECT CURRENT_USER()"),
            open("a password where there is none", |login| login.user = RAW.to_owned()).by('b'),
        ]),
        // Which plugin MySQL pretends to have for an unknown user is each server's own
        script("unknown_user", &["wrong passwords"]).steps(vec![
            open("unknown", |login| login.user = "nobody".to_owned()).may(May::AllButLast),
            open("no name", |login| login.user = String::new()).by('b').may(May::AllButLast),
            open("a long name", |login| login.user = "n".repeat(100)).by('c').may(May::AllButLast),
        ]),
        script("unknown_schema", &["CLIENT_CONNECT_WITH_DB"]).steps(vec![
            open("unknown", |login| login.schema = Some("nowhere".to_owned())),
            open("no name", |login| login.schema = Some(String::new())).by('b'),
            q("SELECT DATABASE()").by('b'),
            open("none", |login| login.schema = None).by('c'),
            q("SELECT DATABASE()").by('c'),
        ]),
        account("denied_schema", &["CLIENT_CONNECT_WITH_DB"], both).steps(vec![
            open("denied", |login| {
                own(login);
                login.schema = Some("mysql".to_owned());
            }),
        ]),
        account("expired", &["expired passwords", "CLIENT_CAN_HANDLE_EXPIRED_PASSWORDS"], both)
            .setup(&["ALTER USER 'u_{s}'@'%' PASSWORD EXPIRE"])
            .steps(vec![
                open("who can handle it", |login| {
                    own(login);
                    login.capabilities |= caps::CAN_HANDLE_EXPIRED_PASSWORDS;
                }),
                q("SELECT 1"),
                prepare("SELECT 1"),
                open("who can not", |login| {
                    own(login);
                    login.capabilities &= !caps::CAN_HANDLE_EXPIRED_PASSWORDS;
                })
                .by('b'),
                q("SELECT 1").by('b'),
                q("SET PASSWORD = 'own-pw'"),
                q("SET PASSWORD = PASSWORD('own-pw')"),
                q("SELECT 1"),
            ]),
        account("locked", &["locked accounts"], both)
            .setup(&["ALTER USER 'u_{s}'@'%' ACCOUNT LOCK"])
            .steps(vec![open("locked", own), open("locked, wrong", wrong).by('b')]),
        account("too_many", &["max_user_connections"], both)
            .setup(&["ALTER USER 'u_{s}'@'%' WITH MAX_USER_CONNECTIONS 1"])
            .steps(vec![open("one", own), open("two", own).by('b'), ping()]),
        account("tls_required", &["REQUIRE SSL"], &format!("{both} REQUIRE SSL")).steps(vec![open("log in", own)]),
        account("certificate_required", &["REQUIRE X509"], &format!("{both} REQUIRE X509"))
            .steps(vec![open("log in", own)]),
        script("attributes", &["CLIENT_CONNECT_ATTRS"]).needs(caps::CONNECT_ATTRS).steps(vec![
            open("with attributes", |login| {
                login.attributes = vec![
                    ("_client_name".to_owned(), "recorder".to_owned()),
                    ("program_name".to_owned(), "\u{1f600}".to_owned()),
                    ("empty".to_owned(), String::new()),
                    ("long".to_owned(), "x".repeat(300)),
                ];
            }),
            q("SELECT ATTR_NAME, ATTR_VALUE, ORDINAL_POSITION FROM performance_schema.session_connect_attrs \
               WHERE PROCESSLIST_ID = CONNECTION_ID() ORDER BY ORDINAL_POSITION"),
            change_user("with other attributes", |login| {
                login.attributes = vec![("program_name".to_owned(), "other".to_owned())];
            }),
            q("SELECT ATTR_NAME, ATTR_VALUE, ORDINAL_POSITION FROM performance_schema.session_connect_attrs \
               WHERE PROCESSLIST_ID = CONNECTION_ID() ORDER BY ORDINAL_POSITION"),
        ]),
        script("collations", &["charsets"]).steps(vec![
            open("latin1", |login| login.collation = 8),
            q("SELECT @@character_set_client, @@collation_connection, @@character_set_results"),
            open("gbk", |login| login.collation = 28).by('b'),
            q("SELECT @@character_set_client, @@collation_connection, @@character_set_results").by('b'),
            open("ucs2, which no client has", |login| login.collation = 35).by('c'),
            q("SELECT @@character_set_client, @@collation_connection, @@character_set_results").by('c'),
            open("unknown", |login| login.collation = 254).by('d'),
            q("SELECT @@character_set_client, @@collation_connection, @@character_set_results").by('d'),
        ]),
        account("change_user", &["COM_CHANGE_USER"], both).setup(ACCOUNT).steps(vec![
            q("SET @a = 1"),
            q("CREATE TEMPORARY TABLE tmp (id INT)"),
            prepare("SELECT 1"),
            change_user("right", own),
            q("SELECT @a, CURRENT_USER(), DATABASE()"),
            q("SELECT * FROM tmp"),
            change_user("without a schema", |login| {
                own(login);
                login.schema = None;
            }),
            q("SELECT CURRENT_USER(), DATABASE()"),
            change_user("another collation", |login| login.collation = 8),
            q("SELECT @@character_set_client, CURRENT_USER()"),
            q("BEGIN"),
            q("UPDATE account SET balance = 0"),
            change_user("in a transaction", own),
            q("SELECT SUM(balance) FROM account"),
            prepare("SELECT 2"),
            q("SELECT 1; SELECT 2"),
        ]),
        account("change_user_wrong_password", &["COM_CHANGE_USER", "wrong passwords"], both).matrix(Matrix::Few).steps(vec![
            q("SET @a = 1"),
            change_user("wrong", wrong),
            ping(),
            q("SELECT @a, CURRENT_USER()"),
        ]),
        script("change_user_unknown", &["COM_CHANGE_USER"]).matrix(Matrix::Few).steps(vec![
            q("SELECT 1"),
            change_user("unknown", |login| login.user = "nobody".to_owned()).may(May::AllButLast),
            ping(),
        ]),
        script("change_user_unknown_schema", &["COM_CHANGE_USER"]).matrix(Matrix::Few).steps(vec![
            q("SELECT 1"),
            change_user("unknown schema", |login| login.schema = Some("nowhere".to_owned())),
            ping(),
        ]),
        script("change_user_three_times_wrong", &["COM_CHANGE_USER", "wrong passwords"]).mariadb().matrix(Matrix::One).steps(vec![
            q("SELECT 1"),
            change_user("wrong", |login| login.password = "1".to_owned()),
            change_user("wrong", |login| login.password = "2".to_owned()),
            change_user("wrong", |login| login.password = "3".to_owned()),
            ping(),
            change_user("wrong", |login| login.password = "4".to_owned()),
            ping(),
        ]),
        script("change_user_empty_password", &["COM_CHANGE_USER", "an empty password"]).steps(vec![
            q("SELECT 1"),
            change_user("to an account without a password", |login| {
                (login.user, login.password) = (RAW.to_owned(), String::new());
            }),
            q("SELECT CURRENT_USER()"),
            change_user("and back", |login| (login.user, login.password) = (APP.0.to_owned(), APP.1.to_owned())),
            q("SELECT CURRENT_USER()"),
        ]),
        script("change_user_malformed", &["COM_CHANGE_USER", "malformed commands"]).matrix(Matrix::Few).steps(vec![
            ping(),
            bytes("nothing behind the byte", &[1, 0, 0, 0, 0x11]),
            packet(),
            ping(),
            ping().by('b'),
            bytes("a name without an end", &[4, 0, 0, 0, 0x11, b'a', b'b', b'c']).by('b'),
            packet().by('b'),
            ping().by('b'),
            ping().by('c'),
            bytes("a proof that is too long", &[6, 0, 0, 0, 0x11, b'a', 0, 200, b'c', b'd']).by('c'),
            packet().by('c'),
            ping().by('c'),
        ]),
    ]
}
