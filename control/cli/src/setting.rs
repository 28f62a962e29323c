//! `fulcrum set` and `fulcrum settings`: behaviour, under the names that IPVS gives it.

use std::str::FromStr;

use fulcrum_model::{Edit, Settings};
use serde::Serialize;

use crate::command::Global;
use crate::failure::Failure;
use crate::output::Output;
use crate::table::{self, Row};

/// What to set.
#[derive(Clone, Debug, clap::Args)]
pub struct SetArguments {
    /// A setting and its value, such as expire_nodest_conn=1; `=default` for IPVS's
    #[arg(required = true, value_name = "NAME=VALUE")]
    pub settings: Vec<Assignment>,
}

/// What to show.
#[derive(Clone, Debug, clap::Args)]
pub struct ListArguments {
    /// One setting; all without
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

/// A setting and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    name: String,
    value: String,
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Assignment, String> {
        let (name, value) = text.split_once('=').ok_or("such as expire_nodest_conn=1")?;
        Ok(Assignment { name: plain(name).to_owned(), value: value.to_owned() })
    }
}

/// The name of a setting that may be written as sysctl writes it.
fn plain(name: &str) -> &str {
    name.strip_prefix("net.ipv4.vs.").unwrap_or(name)
}

/// `fulcrum set`: all or none.
pub async fn set(global: &Global, arguments: SetArguments) -> Result<(), Failure> {
    let default = Settings::default();
    let edit = |set: Assignment| {
        let value = match set.value.as_str() {
            // A name that is not known is refused below, with all that are.
            "default" => default.get(&set.name).unwrap_or_default(),
            _ => set.value,
        };
        Edit::SetSetting { name: set.name, value }
    };
    let edits: Vec<Edit> = arguments.settings.into_iter().map(edit).collect();
    global.edit(&edits).await
}

/// `fulcrum settings`.
pub async fn list(global: &Global, arguments: ListArguments, out: &mut Output<'_>) -> Result<(), Failure> {
    let settings = global.client().await?.state().await?.settings;
    let wanted = arguments.name.as_deref().map(plain);
    let names = Settings::names().filter(|name| wanted.is_none_or(|wanted| wanted == *name));
    let rows: Vec<SettingRow> = names.map(|name| SettingRow::of(name, &settings)).collect();
    match wanted {
        Some(name) if rows.is_empty() => {
            Err(Failure::Missing(format!("there is no setting `{name}`; `fulcrum settings` lists them")))
        }
        _ => Ok(table::print(out, global.json, &rows)?),
    }
}

#[derive(Clone, Debug, Serialize)]
struct SettingRow {
    name: &'static str,
    value: String,
    default: String,
    /// Whether it can have another value.
    fixed: bool,
    meaning: String,
}

impl SettingRow {
    fn of(name: &'static str, settings: &Settings) -> SettingRow {
        SettingRow {
            name,
            value: settings.get(name).unwrap_or_default(),
            default: Settings::default().get(name).unwrap_or_default(),
            fixed: !Settings::NAMES.contains(&name),
            meaning: Settings::meaning(name).unwrap_or_default(),
        }
    }
}

impl Row for SettingRow {
    const HEAD: &'static [&'static str] = &["NAME", "VALUE", "DEFAULT", "MEANING"];

    fn cells(&self) -> Vec<String> {
        vec![self.name.to_owned(), self.value.clone(), self.default.clone(), self.meaning.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_has_a_sentence() {
        for name in Settings::names() {
            let row = SettingRow::of(name, &Settings::default());
            assert_eq!(row.value, row.default);
            assert!(row.meaning.ends_with('.') && !row.meaning.contains('\n'), "{name}: {}", row.meaning);
        }
    }

    #[test]
    fn a_sysctls_whole_name_is_its_name() {
        let set: Assignment = "net.ipv4.vs.sync_threshold=3 50".parse().unwrap();
        assert_eq!(set, Assignment { name: "sync_threshold".into(), value: "3 50".into() });
        assert!("sloppy_tcp".parse::<Assignment>().is_err());
    }
}
