//! The cron expressions of a specification, as stored.

use serde::{Deserialize, Serialize, Serializer};

/// One expression or several. One is stored as a text, as it was before there could be several;
/// several are stored as a list.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Deserialize)]
#[serde(from = "OneOrSeveral")]
pub struct CronTexts(Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrSeveral {
    One(String),
    Several(Vec<String>),
}

impl CronTexts {
    /// The expressions, each once, in the order in which they were given.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// Text that is equal for equal sets of expressions.
    pub fn key(&self) -> String {
        let mut texts: Vec<&str> = self.0.iter().map(String::as_str).collect();
        texts.sort_unstable();
        texts.join(";")
    }
}

impl From<Vec<String>> for CronTexts {
    fn from(texts: Vec<String>) -> Self {
        let mut once: Vec<String> = Vec::with_capacity(texts.len());
        for text in texts {
            if !once.contains(&text) {
                once.push(text);
            }
        }
        Self(once)
    }
}

impl From<OneOrSeveral> for CronTexts {
    fn from(given: OneOrSeveral) -> Self {
        match given {
            OneOrSeveral::One(text) => text.into(),
            OneOrSeveral::Several(texts) => texts.into(),
        }
    }
}

impl From<String> for CronTexts {
    fn from(text: String) -> Self {
        Self(vec![text])
    }
}

impl From<&str> for CronTexts {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl Serialize for CronTexts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.as_slice() {
            [text] => serializer.serialize_str(text),
            texts => serializer.collect_seq(texts),
        }
    }
}
