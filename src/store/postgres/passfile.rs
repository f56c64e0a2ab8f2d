//! libpq's password file: lines of `host:port:database:user:password`.

use std::path::Path;

/// The login for which a password is looked up.
#[derive(Copy, Clone, Debug)]
pub struct Login<'l> {
    /// The server's name as in the URL.
    pub host: &'l str,
    /// Its port.
    pub port: u16,
    /// The database.
    pub database: &'l str,
    /// The role.
    pub user: &'l str,
}

/// The password for this login, if the file has one. Like libpq, ignores a file that other users
/// can read.
pub(super) fn password(path: &Path, login: Login<'_>) -> Option<String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path).ok()?.permissions().mode();
        if mode & 0o077 != 0 {
            return None;
        }
    }
    password_in(&std::fs::read_to_string(path).ok()?, login)
}

/// The password for this login in the text of a password file.
pub fn password_in(text: &str, login: Login<'_>) -> Option<String> {
    let port = login.port.to_string();
    let wanted = [login.host, &port, login.database, login.user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let [given @ .., password] = &fields[..] else { return None };
        let is_meant = given.len() == 4
            && given.iter().zip(wanted).all(|(given, wanted)| given == "*" || given == wanted);
        is_meant.then(|| password.clone())
    })
}

/// The fields of a line. A backslash escapes the next character.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.trim_end_matches('\r').chars();
    while let Some(character) = characters.next() {
        let is_last = fields.len() == 5;
        let Some(field) = fields.last_mut() else { continue };
        match character {
            '\\' => field.extend(characters.next()),
            ':' if !is_last => fields.push(String::new()),
            other => field.push(other),
        }
    }
    fields
}
