//! The one list of drivers: what is run, and what docs/compatibility.md says of it.

use atone_tests::Flavor;

/// A driver and the program of tests/drivers that uses it.
#[derive(Debug)]
pub(crate) struct Driver {
    /// The name of its tests, and of its global transactions.
    pub(crate) id: &'static str,
    pub(crate) language: &'static str,
    pub(crate) name: &'static str,
    pub(crate) version: Version,
    pub(crate) program: Program,
    /// What the program's unbound run does: the sections of its output, in this order, separated by spaces.
    pub(crate) sections: &'static str,
    /// The driver offers zlib compression, and the program runs with it too.
    pub(crate) compression: bool,
    /// How MySQL's caching_sha2_password goes without TLS when the server has not cached the password.
    pub(crate) full_login: FullLogin,
}

/// Where a driver's version is laid down.
#[derive(Debug)]
pub(crate) enum Version {
    /// A lock file of tests/drivers, which contains `text` with `{}` replaced by the version.
    Pinned { version: &'static str, file: &'static str, text: &'static str },
    /// What the system's package, or the server's, brings.
    System,
}

/// How a program is started.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Program {
    /// A file of tests/drivers/python, and its arguments.
    Python(&'static [&'static str]),
    /// The binary made of tests/drivers/go.
    Go,
    /// A file of tests/drivers/node.
    Node(&'static str),
    /// A file of tests/drivers/php.
    Php(&'static str),
    /// A binary made of tests/drivers/rust.
    Rust(&'static str),
    /// The command-line client of this server, and its dump program.
    Client(Flavor),
    /// The class made of tests/drivers/java, with the driver's name as its argument.
    Java(&'static str),
}

/// What a driver can do when the server asks for the whole password over a connection without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FullLogin {
    /// It encrypts the password with the server's key.
    Rsa,
    /// It refuses; the password has to be in the server's cache.
    Refused,
}

/// All of them.
pub(crate) const DRIVERS: &[Driver] = &[
    Driver {
        id: "pymysql",
        language: "Python",
        name: "PyMySQL",
        version: python("1.2.4", "PyMySQL=={}"),
        program: Program::Python(&["with_pymysql.py"]),
        sections: DB_API,
        compression: false,
        full_login: FullLogin::Rsa,
    },
    Driver {
        id: "mysqlclient",
        language: "Python",
        name: "mysqlclient, on MariaDB Connector/C",
        version: python("2.3.1", "mysqlclient=={}"),
        program: Program::Python(&["with_mysqlclient.py"]),
        sections: DB_API,
        compression: true,
        full_login: FullLogin::Rsa,
    },
    Driver {
        id: "connector_python_pure",
        language: "Python",
        name: "MySQL Connector/Python, pure",
        version: python("9.7.0", "mysql-connector-python=={}"),
        program: Program::Python(&["with_connector.py", "pure"]),
        sections: CONNECTOR_PYTHON,
        compression: true,
        full_login: FullLogin::Refused,
    },
    Driver {
        id: "connector_python_c",
        language: "Python",
        name: "MySQL Connector/Python, C extension",
        version: python("9.7.0", "mysql-connector-python=={}"),
        program: Program::Python(&["with_connector.py", "c"]),
        sections: CONNECTOR_PYTHON,
        compression: true,
        full_login: FullLogin::Refused,
    },
    Driver {
        id: "asyncmy",
        language: "Python",
        name: "asyncmy",
        version: python("0.2.18", "asyncmy=={}"),
        program: Program::Python(&["with_asyncmy.py"]),
        sections: "login text parameters batch blobs streaming multi procedure transaction errors warnings metadata \
                   reset pool",
        compression: false,
        full_login: FullLogin::Rsa,
    },
    Driver {
        id: "go_sql_driver",
        language: "Go",
        name: "go-sql-driver/mysql",
        version: Version::Pinned {
            version: "1.8.1",
            file: "go/go.mod",
            text: "github.com/go-sql-driver/mysql v{}",
        },
        program: Program::Go,
        sections: "login text parameters prepared batch blobs blobs-prepared streaming multi procedure transaction \
                   errors warnings metadata load-data reset pool",
        compression: false,
        full_login: FullLogin::Rsa,
    },
    Driver {
        id: "mysql2",
        language: "JavaScript",
        name: "mysql2",
        version: node("3.24.6", "\"mysql2\": \"{}\""),
        program: Program::Node("with_mysql2.js"),
        sections: NODE,
        compression: true,
        full_login: FullLogin::Rsa,
    },
    Driver {
        id: "mariadb_js",
        language: "JavaScript",
        name: "mariadb",
        version: node("3.4.5", "\"mariadb\": \"{}\""),
        program: Program::Node("with_mariadb.js"),
        sections: NODE,
        compression: true,
        full_login: FullLogin::Rsa,
    },
    Driver {
        id: "connector_j",
        language: "Java",
        name: "MySQL Connector/J",
        version: java("9.7.0", "<artifactId>mysql-connector-j</artifactId>\n      <version>{}</version>"),
        program: Program::Java("mysql"),
        sections: JAVA,
        compression: true,
        full_login: FullLogin::Rsa,
    },
    Driver {
        id: "mariadb_connector_j",
        language: "Java",
        name: "MariaDB Connector/J",
        version: java("3.5.6", "<artifactId>mariadb-java-client</artifactId>\n      <version>{}</version>"),
        program: Program::Java("mariadb"),
        sections: JAVA,
        compression: true,
        full_login: FullLogin::Rsa,
    },
    Driver {
        id: "mysqli",
        language: "PHP",
        name: "mysqli, on mysqlnd",
        version: Version::System,
        program: Program::Php("with_mysqli.php"),
        sections: "login text prepared batch blobs blobs-prepared streaming cursor multi procedure transaction errors \
                   warnings metadata load-data reset",
        compression: true,
        full_login: FullLogin::Rsa,
    },
    Driver {
        id: "pdo",
        language: "PHP",
        name: "PDO, on mysqlnd",
        version: Version::System,
        program: Program::Php("with_pdo.php"),
        sections: "login text parameters prepared batch blobs blobs-prepared streaming multi procedure transaction \
                   errors warnings metadata load-data",
        compression: true,
        full_login: FullLogin::Rsa,
    },
    Driver {
        id: "sqlx",
        language: "Rust",
        name: "sqlx",
        version: rust("0.8.6", "name = \"sqlx\"\nversion = \"{}\""),
        program: Program::Rust("with_sqlx"),
        sections: "login text prepared batch blobs blobs-prepared streaming multi procedure transaction errors \
                   warnings metadata reset pool",
        compression: false,
        full_login: FullLogin::Rsa,
    },
    Driver {
        id: "mysql_async",
        language: "Rust",
        name: "mysql_async",
        version: rust("0.37.1", "name = \"mysql_async\"\nversion = \"{}\""),
        program: Program::Rust("with_mysql_async"),
        sections: "login text prepared batch blobs blobs-prepared streaming multi procedure transaction errors \
                   warnings metadata load-data reset pool",
        compression: true,
        full_login: FullLogin::Rsa,
    },
    Driver {
        id: "mariadb_client",
        language: "command line",
        name: "mariadb, mariadb-dump",
        version: Version::System,
        program: Program::Client(Flavor::MariaDb),
        sections: CLIENT,
        compression: true,
        full_login: FullLogin::Rsa,
    },
    Driver {
        id: "mysql_client",
        language: "command line",
        name: "mysql, mysqldump",
        version: Version::System,
        program: Program::Client(Flavor::MySql),
        sections: CLIENT,
        compression: true,
        full_login: FullLogin::Rsa,
    },
];

const fn rust(version: &'static str, text: &'static str) -> Version {
    Version::Pinned { version, file: "rust/Cargo.lock", text }
}

const fn java(version: &'static str, text: &'static str) -> Version {
    Version::Pinned { version, file: "java/pom.xml", text }
}

const fn node(version: &'static str, text: &'static str) -> Version {
    Version::Pinned { version, file: "node/package.json", text }
}

const fn python(version: &'static str, text: &'static str) -> Version {
    Version::Pinned { version, file: "python/requirements.txt", text }
}

/// What the sections are in the documentation.
pub(crate) const SECTIONS: &[(&str, &str)] = &[
    ("login", "login, versions, character sets, connection id"),
    ("text", "every column type in the text protocol"),
    ("parameters", "parameters put in by the driver"),
    ("prepared", "statements prepared on the server"),
    ("batch", "batches and bulk inserts"),
    ("blobs", "values of 1 MiB and 17 MiB"),
    ("blobs-prepared", "the same, prepared"),
    ("streaming", "results read row by row"),
    ("cursor", "cursors on the server, read piece by piece"),
    ("multi", "several statements in one packet"),
    ("procedure", "stored procedures with several results"),
    ("transaction", "transactions, savepoints, autocommit"),
    ("errors", "error codes and states"),
    ("warnings", "warnings"),
    ("metadata", "column metadata"),
    ("load-data", "LOAD DATA LOCAL"),
    ("reset", "ping, change of user or schema, reset, kill"),
    ("dump", "dump and restore"),
    ("pool", "the driver's connection pool"),
];

/// What programs that share a script do.
const DB_API: &str = "login text parameters batch blobs streaming multi procedure transaction errors warnings metadata \
                      load-data reset";
const CONNECTOR_PYTHON: &str = "login text parameters prepared batch blobs blobs-prepared streaming multi procedure \
                                transaction errors warnings metadata load-data reset pool";
const NODE: &str = "login text parameters prepared batch blobs blobs-prepared streaming multi procedure transaction \
                    errors warnings metadata load-data reset pool";
const JAVA: &str = "login text parameters prepared batch blobs blobs-prepared streaming cursor multi procedure \
                    transaction errors warnings metadata load-data reset";
const CLIENT: &str = "login text prepared batch blobs streaming multi procedure transaction errors warnings metadata \
                      load-data reset dump";
