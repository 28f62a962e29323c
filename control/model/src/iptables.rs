//! Rules that mark packets, as `iptables-save` prints them and scripts write them, read as [`MarkRule`]s.
//!
//! What marks nothing is passed over: comments, other tables, chains and their policies. What belongs to the marks
//! and cannot be said by a rule of ours is an error that names it: half of somebody's rules are worse than none.

use std::fmt;
use std::iter::Peekable;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::state::{Family, MarkRule, PortRange, Protocol, prefix_of_mask};

/// Targets that a packet goes on from, to the next rule, with the mark that it has.
const HARMLESS: [&str; 9] = ["CHECKSUM", "DSCP", "HL", "LOG", "NFLOG", "TCPMSS", "TOS", "TRACE", "TTL"];

/// A line that marks packets and cannot be expressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct BadLine {
    /// Its number, from 1.
    pub number: usize,
    /// What it says.
    pub text: String,
    /// What cannot be expressed of it.
    pub why: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} in `{}`", self.number, self.why, self.text)
    }
}

/// The rules of the mangle table's PREROUTING chain, in order, for packets of one family. All lines that cannot be
/// expressed, when there are any.
pub fn parse(family: Family, text: &str) -> Result<Vec<MarkRule>, Vec<BadLine>> {
    let (mut rules, mut bad) = (Vec::new(), Vec::new());
    // Lines without a table before them are taken for the mangle table's.
    let mut mangle = true;
    for (at, line) in text.lines().map(str::trim).enumerate() {
        if let Some(table) = line.strip_prefix('*') {
            mangle = table == "mangle";
            continue;
        }
        if !mangle || line.is_empty() || line.starts_with(['#', ':']) || line == "COMMIT" {
            continue;
        }
        match words(line).and_then(|words| Line::new(family).read(words)) {
            Ok(rule) => rules.extend(rule),
            Err(why) => bad.push(BadLine { number: at + 1, text: line.to_owned(), why }),
        }
    }
    if bad.is_empty() { Ok(rules) } else { Err(bad) }
}

/// The words of a line; double quotes hold blanks, a backslash in them takes the next character as it is.
fn words(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => (quoted, begun) = (!quoted, true),
            '\\' if quoted => word.extend(characters.next()),
            c if c.is_whitespace() && !quoted => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            c => {
                word.push(c);
                begun = true;
            }
        }
    }
    if quoted {
        return Err("a quote is not closed".to_owned());
    }
    if begun {
        words.push(word);
    }
    Ok(words)
}

/// A line as far as it was read.
struct Line {
    family: Family,
    table: Option<String>,
    chain: Option<String>,
    target: Option<String>,
    /// Value and mask: mark = (mark & !mask) ^ value.
    change: Option<(u32, u32)>,
    rule: MarkRule,
    /// What was read and cannot be expressed: only of weight when the line marks.
    odd: Option<String>,
}

impl Line {
    fn new(family: Family) -> Line {
        let rule = MarkRule { family: Some(family), ..MarkRule::new(0) };
        Line { family, table: None, chain: None, target: None, change: None, rule, odd: None }
    }

    fn read(mut self, words: Vec<String>) -> Result<Option<MarkRule>, String> {
        let mut words = words.into_iter().peekable();
        // `iptables-save -c` counts before, scripts call the program.
        let before = |word: &String| word.starts_with('[') || is_program(word);
        while let Some(word) = words.next_if(before) {
            self.program(&word)?;
        }
        while let Some(word) = words.next() {
            self.option(&word, &mut words)?;
        }
        self.finish()
    }

    fn program(&mut self, word: &str) -> Result<(), String> {
        let v6 = word.rsplit('/').next().is_some_and(|name| name.starts_with("ip6"));
        if is_program(word) && v6 != (self.family == Family::V6) {
            let (is, other) = if v6 { (Family::V6, "--ipv6") } else { (Family::V4, "without --ipv6") };
            return Err(format!("`{word}` is about {is}; import it {other}"));
        }
        Ok(())
    }

    fn option(
        &mut self,
        word: &str,
        words: &mut Peekable<impl Iterator<Item = String>>,
    ) -> Result<(), String> {
        let mut value = || words.next().ok_or_else(|| format!("`{word}` has no value"));
        match word {
            "-t" | "--table" => self.table = Some(value()?),
            "-A" | "--append" => self.chain = Some(value()?),
            "-j" | "--jump" => self.target = Some(value()?),
            // The matches that these load are judged by their options.
            "-m" | "--match" => match value()?.as_str() {
                "tcp" | "udp" | "sctp" | "multiport" | "comment" => {}
                other => self.odd(format!("the match `{other}` cannot be expressed")),
            },
            "--comment" => drop(value()?),
            "-p" | "--protocol" => self.protocol(&value()?),
            "-s" | "--source" | "--src" => self.rule.source = Some(network(self.family, &value()?)?),
            "-d" | "--destination" | "--dst" => {
                self.rule.destination = Some(network(self.family, &value()?)?)
            }
            "-i" | "--in-interface" => {
                let name = value()?;
                if name.ends_with('+') {
                    self.odd(format!("`{name}` stands for several interfaces, a rule has one"));
                }
                self.rule.interface = Some(name);
            }
            "--sport" | "--source-port" | "--sports" | "--source-ports" => {
                self.rule.source_ports = ports(&value()?)?;
            }
            "--dport" | "--destination-port" | "--dports" | "--destination-ports" => {
                self.rule.destination_ports = ports(&value()?)?;
            }
            "--set-mark" => {
                let (value, mask) = value_and_mask(&value()?)?;
                self.change = Some((value, value | mask));
            }
            "--set-xmark" => self.change = Some(value_and_mask(&value()?)?),
            "--or-mark" => {
                let bits = number(&value()?)?;
                self.change = Some((bits, bits));
            }
            "--and-mark" => self.change = Some((0, !number(&value()?)?)),
            "-N" | "-P" | "-F" | "-X" | "-Z" if self.chain.is_none() => {
                // A script makes room, or says what happens at a chain's end.
                words.by_ref().for_each(drop);
            }
            "!" => self.odd(format!("a negation (`! {}`) cannot be expressed", value()?)),
            other => self.odd(format!("`{other}` cannot be expressed")),
        }
        Ok(())
    }

    /// Remembers the first thing that cannot be expressed.
    fn odd(&mut self, why: String) {
        self.odd.get_or_insert(why);
    }

    fn protocol(&mut self, name: &str) {
        let read = Protocol::ALL
            .into_iter()
            .find(|protocol| protocol.name() == name || protocol.number().to_string() == name);
        match read {
            Some(protocol) => self.rule.protocol = Some(protocol),
            None if matches!(name, "all" | "0") => {}
            None => self.odd(format!("services have no protocol `{name}`")),
        }
    }

    fn finish(self) -> Result<Option<MarkRule>, String> {
        if self.table.is_some_and(|table| table != "mangle") {
            return Ok(None);
        }
        let (Some(chain), Some(target)) = (&self.chain, &self.target) else {
            // Whatever it is, it changes no mark: a rule without a target counts.
            return if self.chain.is_none() && self.odd.is_some() {
                Err(self.odd.unwrap_or_default())
            } else {
                Ok(None)
            };
        };
        match (chain.as_str(), target.as_str()) {
            ("PREROUTING", "MARK") => {}
            ("PREROUTING", target) if HARMLESS.contains(&target) => return Ok(None),
            ("PREROUTING", target) => {
                return Err(format!("the target `{target}` cannot be expressed, and marks may depend on it"));
            }
            (chain, "MARK") => return Err(format!("services see marks of PREROUTING only, not of {chain}")),
            _ => return Ok(None),
        }
        if let Some(why) = self.odd {
            return Err(why);
        }
        let (value, mask) = self.change.ok_or("`-j MARK` has no --set-mark")?;
        if value & !mask != 0 {
            return Err(format!(
                "bits {:#x} of the mark are turned over, which cannot be expressed",
                value & !mask
            ));
        }
        Ok(Some(MarkRule { mark: value, mask, ..self.rule }))
    }
}

fn is_program(word: &str) -> bool {
    let name = word.rsplit('/').next().unwrap_or(word);
    matches!(
        name,
        "iptables" | "ip6tables" | "iptables-legacy" | "ip6tables-legacy" | "iptables-nft" | "ip6tables-nft"
    )
}

/// An address or a network; iptables masks host bits away.
fn network(family: Family, text: &str) -> Result<IpNet, String> {
    let bad = || format!("`{text}` is not an address or a network of {family}");
    let (address, length) =
        text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    let length = match length {
        None => family.bits(),
        Some(length) => match length.parse::<Ipv4Addr>() {
            Ok(mask) => prefix_of_mask(mask).ok_or_else(|| format!("the mask of `{text}` has holes"))?,
            Err(_) => length.parse().map_err(|_| bad())?,
        },
    };
    match IpNet::new(address, length) {
        Ok(net) if Family::of(address) == family => Ok(net.trunc()),
        _ => Err(bad()),
    }
}

/// Ports and ranges of them (`80,8000:8080`, `:1023`, `1024:`).
fn ports(text: &str) -> Result<Vec<PortRange>, String> {
    let end = |text: &str, open: u16| if text.is_empty() { Ok(open) } else { text.parse() };
    let range = |each: &str| {
        let (first, last) = each.split_once(':').unwrap_or((each, each));
        match (end(first, 0), end(last, u16::MAX)) {
            (Ok(first), Ok(last)) if first <= last && !each.is_empty() => Ok(PortRange { first, last }),
            _ => Err(format!("`{each}` is neither a port number nor a range of them")),
        }
    };
    text.split(',').map(range).collect()
}

fn value_and_mask(text: &str) -> Result<(u32, u32), String> {
    match text.split_once('/') {
        Some((value, mask)) => Ok((number(value)?, number(mask)?)),
        None => Ok((number(text)?, u32::MAX)),
    }
}

/// A number as the C library reads it: 0x is hexadecimal, a leading 0 octal.
fn number(text: &str) -> Result<u32, String> {
    let read = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None if text.len() > 1 && text.starts_with('0') => u32::from_str_radix(&text[1..], 8),
        None => text.parse(),
    };
    read.map_err(|_| format!("`{text}` is no mark"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As iptables-save 1.8.9 printed the rules of a host.
    const SAVED: &str = r#"# Generated by iptables-save v1.8.9 on Sat Nov 21 14:17:23 2026
*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 22 -j DNAT --to-destination 10.0.0.9
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
-A PREROUTING -d 10.0.0.1/32 -p tcp -m tcp --dport 80 -j MARK --set-xmark 0x11/0x11
-A PREROUTING -d 10.0.0.1/32 -p tcp -m multiport --dports 80,443,8000:8080 -j MARK --set-xmark 0xa/0xffffffff
-A PREROUTING -j LOG --log-prefix "a \"b\" c"
-A PREROUTING -j MARK --set-xmark 0x4/0x4
-A PREROUTING -j MARK --set-xmark 0x0/0xffffff00
-A PREROUTING -s 10.0.0.0/8 -i eth0 -m comment --comment "a \"b\" c" -j MARK --set-xmark 0x3/0xffffffff
-A FORWARD -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
COMMIT
"#;

    fn rules(text: &str) -> Vec<String> {
        parse(Family::V4, text).unwrap().iter().map(ToString::to_string).collect()
    }

    fn refused(text: &str) -> String {
        let bad = parse(Family::V4, text).unwrap_err();
        bad.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_iptables_saved_is_read_in_order() {
        assert_eq!(
            rules(SAVED),
            [
                "ipv4 tcp to 10.0.0.1/32 ports 80: mark 17/0x11",
                "ipv4 tcp to 10.0.0.1/32 ports 80,443,8000-8080: mark 10",
                "ipv4: mark 4/0x4",
                "ipv4: mark 0/0xffffff00",
                "ipv4 from 10.0.0.0/8 on eth0: mark 3",
            ]
        );
    }

    #[test]
    fn commands_of_scripts_are_read_too() {
        let script = "iptables -t mangle -F\n\
             /sbin/iptables -t mangle -A PREROUTING -p 17 -s 10.1.2.3/255.0.0.0 --sport :1023 -j MARK --set-mark 010\n\
             iptables -t nat -A PREROUTING -j MASQUERADE\n\
             [3:180] -A PREROUTING --protocol all --dst 10.0.0.7 -j MARK --or-mark 0x10\n\
             -A PREROUTING -j MARK --set-mark 0x11/0x10\n\
             -A PREROUTING -j MARK --and-mark 0xff\n";
        assert_eq!(
            rules(script),
            [
                "ipv4 udp from 10.0.0.0/8 source ports 0-1023: mark 8",
                "ipv4 to 10.0.0.7/32: mark 16/0x10",
                "ipv4: mark 17/0x11",
                "ipv4: mark 0/0xffffff00",
            ]
        );
        let v6 = "ip6tables -t mangle -A PREROUTING -d 2001:db8::9 -p tcp --dport 443 -j MARK --set-mark 10";
        assert_eq!(
            parse(Family::V6, v6).unwrap()[0].to_string(),
            "ipv6 tcp to 2001:db8::9/128 ports 443: mark 10"
        );
    }

    #[test]
    fn what_cannot_be_expressed_is_named_with_its_line() {
        for (rule, why) in [
            ("! -s 10.0.0.1/32 -j MARK --set-mark 1", "a negation (`! -s`)"),
            ("-i eth+ -j MARK --set-mark 1", "`eth+` stands for several interfaces"),
            ("-p icmp -j MARK --set-mark 1", "services have no protocol `icmp`"),
            ("-m state --state NEW -j MARK --set-mark 1", "the match `state`"),
            ("-p tcp --syn -j MARK --set-mark 1", "`--syn` cannot be expressed"),
            ("-p tcp --dport http -j MARK --set-mark 1", "`http` is neither a port number"),
            ("-p tcp --dport 9:8 -j MARK --set-mark 1", "`9:8` is neither"),
            ("-d 2001:db8::1 -j MARK --set-mark 1", "`2001:db8::1` is not an address or a network of IPv4"),
            ("-d 10.0.0.0/33 -j MARK --set-mark 1", "`10.0.0.0/33` is not"),
            ("-d 10.0.0.0/255.0.255.0 -j MARK --set-mark 1", "has holes"),
            ("-j MARK --set-xmark 0x1/0x0", "bits 0x1 of the mark are turned over"),
            ("-j MARK --set-mark ten", "`ten` is no mark"),
            ("-j MARK", "`-j MARK` has no --set-mark"),
            ("-j ACCEPT", "the target `ACCEPT` cannot be expressed"),
            ("-j MARK --set-mark", "`--set-mark` has no value"),
            ("-m comment --comment \"open -j MARK --set-mark 1", "a quote is not closed"),
        ] {
            let said = refused(&format!("*mangle\n-A PREROUTING {rule}"));
            assert!(said.starts_with("2: ") && said.contains(why) && said.contains(rule), "{rule}: {said}");
        }
        assert!(refused("-A OUTPUT -j MARK --set-mark 1").contains("not of OUTPUT"));
        assert!(refused("-I PREROUTING -j MARK --set-mark 1").contains("`-I` cannot be expressed"));
        assert!(
            refused("ip6tables -t mangle -A PREROUTING -j MARK --set-mark 1").contains("import it --ipv6")
        );
        assert!(refused("hello world").contains("`hello` cannot be expressed"));
        let two =
            refused("-A PREROUTING -j ACCEPT\n-A PREROUTING -j MARK --set-mark 1\n-A PREROUTING -j DROP");
        assert_eq!(two.lines().map(|line| &line[..2]).collect::<Vec<_>>(), ["1:", "3:"]);
    }
}
