//! How ids and names are stored: as plain texts. For `#[serde(with = …)]`.

pub(crate) mod arc_str {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(from).map(Arc::from)
    }
}

pub(crate) mod xid_text {
    use atone_api::Xid;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(xid: &Xid, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(xid.as_str())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Xid, D::Error> {
        Xid::new(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}
