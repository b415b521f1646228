//! Errors of the driver, as those of the service account.

use atone_facts::ServiceError;
use mysql_async::Error;

/// The driver's error in its own words, with the server's code if it is the server's.
pub fn service_error(error: Error) -> ServiceError {
    let text = error.to_string();
    match error {
        Error::Server(e) => ServiceError::of_server(e.code, e.message, text),
        _ => ServiceError::other(text),
    }
}
