//! The hashes of keys, read and written behind the store's back.

use redis::{Commands, Connection};

use super::damage::{Fields, OtherType};

/// A connection to the server, and the prefix of the store.
pub(crate) struct Server {
    connection: Connection,
    prefix: String,
}

impl Server {
    pub(crate) fn connect(url: &str, prefix: &str) -> Self {
        let client = redis::Client::open(url).expect("a URL");
        let connection = client.get_connection().expect("the test server takes connections");
        Self { connection, prefix: prefix.to_owned() }
    }

    /// The counts (`k`), the limits (`l`), the record (`m`) or the reservations (`r`) of a key.
    pub(crate) fn read(&mut self, kind: char, id: &str) -> Fields {
        self.connection.hgetall(self.name(kind, id)).expect("a hash")
    }

    pub(crate) fn write(&mut self, kind: char, id: &str, fields: &Fields) {
        let key = self.name(kind, id);
        let _: () = self.connection.del(&key).expect("DEL");
        if !fields.is_empty() {
            let fields: Vec<_> = fields.iter().collect();
            let _: () = self.connection.hset_multiple(&key, &fields).expect("HSET");
        }
    }

    pub(crate) fn write_other(&mut self, kind: char, id: &str, other: OtherType) {
        let key = self.name(kind, id);
        let _: () = self.connection.del(&key).expect("DEL");
        let _: () = match other {
            OtherType::Text => self.connection.set(&key, "text"),
            OtherType::List => self.connection.rpush(&key, "item"),
            OtherType::Nothing => Ok(()),
        }
        .expect("a write");
    }

    fn name(&self, kind: char, id: &str) -> String {
        // The tag is the first segment.
        let (tag, rest) = id.split_at(id.find('/').unwrap_or(id.len()));
        format!("{}:{kind}:{{{tag}}}{rest}", self.prefix)
    }
}
