//! The address of the probes: `HOST:PORT`.

use crate::error::Error;
use std::io::ErrorKind;
use std::net::{TcpListener, ToSocketAddrs};

/// Listens on `HOST:PORT`; port 0 takes a free one.
pub fn bind(address: &str) -> Result<TcpListener, Error> {
    let refused = |why: &str| Error::Argument(format!("health: cannot listen on `{address}`: {why}"));
    let found: Vec<_> = match address.to_socket_addrs() {
        Ok(found) => found.collect(),
        Err(error) if error.kind() == ErrorKind::InvalidInput => {
            return Err(refused(
                "it is not of the form `HOST:PORT`, such as `127.0.0.1:8080` or `[::1]:8080`",
            ));
        }
        Err(error) => return Err(refused(&format!("the host cannot be resolved: {error}"))),
    };
    TcpListener::bind(&found[..]).map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => refused("another program uses this port; give another one"),
        ErrorKind::AddrNotAvailable => {
            refused("this machine does not have this address; `0.0.0.0` is all that it has")
        }
        ErrorKind::PermissionDenied => {
            refused("this process may not use this port; give one of 1024 or more")
        }
        _ => refused(&error.to_string()),
    })
}
