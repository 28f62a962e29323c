//! Real servers: nginx and a UDP server that both answer with their name, and the tunnel's far end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::net::{Family, Namespace, twin};
use crate::process::{Process, program, wait_listening};

/// Size of the file that labs download.
pub const BIG: usize = 20 << 20;

/// A namespace that serves.
#[derive(Debug)]
pub struct Server {
    /// Where it lives.
    pub inside: Namespace,
    /// What it answers with.
    pub name: String,
    directory: PathBuf,
    processes: Vec<Process>,
}

impl Server {
    /// A server of that name, with nothing running yet.
    pub fn new(inside: Namespace, name: &str, lab: &Path) -> Server {
        let directory = lab.join(name);
        fs::create_dir_all(directory.join("up")).expect("the lab's directory is writable");
        Server { inside, name: name.to_owned(), directory, processes: Vec::new() }
    }

    /// Starts nginx on some ports: `/` answers with the name, `/big` is the large file, `/up/…` takes uploads.
    #[track_caller]
    pub fn serve_http(&mut self, ports: &[u16]) {
        let listen: String = ports
            .iter()
            .map(|port| format!("listen [::]:{port} ipv6only=off reuseport backlog=16384; "))
            .collect();
        let (name, here) = (&self.name, self.directory.display());
        let lab = self.lab().display();
        let configuration = format!(
            "daemon off; user root; worker_processes 1;
             pid {here}/nginx.pid; error_log {lab}/{name}.nginx.log warn;
             events {{ worker_connections 10000; }}
             http {{
               access_log {here}/access.log;
               client_body_temp_path {here}/body; proxy_temp_path {here}/proxy;
               fastcgi_temp_path {here}/fcgi; uwsgi_temp_path {here}/uwsgi; scgi_temp_path {here}/scgi;
               default_type text/plain; sendfile on; client_max_body_size 100m; keepalive_timeout 600;
               server {{
                 {listen}
                 location = / {{ return 200 '{name}\\n'; }}
                 location = /big {{ alias {lab}/big; }}
                 location /up/ {{ root {here}; dav_methods PUT; }}
               }}
             }}\n"
        );
        let file = self.directory.join("nginx.conf");
        fs::write(&file, configuration).expect("the lab's directory is writable");
        big_file(self.lab());
        let mut command = self.inside.command("sh");
        command
            .args(["-c", "ulimit -n $(ulimit -Hn); exec nginx -c \"$0\" -p \"$1\""])
            .arg(&file)
            .arg(&self.directory);
        self.start(&mut command, "http");
        ports.iter().for_each(|port| wait_listening(&self.inside, "tcp", *port));
    }

    /// Starts a UDP server at an address and its twin.
    #[track_caller]
    pub fn serve_udp(&mut self, address: &str, port: u16) {
        let mut command = self.inside.command(program("fulcrum-lab"));
        command.args(["serve-udp", &self.name]);
        command.args([Family::V4, Family::V6].map(|family| format!("{}:{port}", family.host(address))));
        self.start(&mut command, &format!("udp{port}-{address}")).wait_said("ready", Duration::from_secs(5));
    }

    /// Makes the server take a VIP and its twin on loopback without telling anybody (DR, TUN).
    #[track_caller]
    pub fn hold_vip(&self, vip: &str) {
        self.inside.sh(&format!(
            "sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
             ip addr add {vip}/32 dev lo
             ip addr add {}/128 dev lo nodad",
            twin(vip)
        ));
    }

    /// Starts the decapsulator: inner packets enter through a veth pair, like a tunnel device.
    #[track_caller]
    pub fn decapsulate(&mut self) {
        self.inside.sh("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
             ip link add decap0 type veth peer name decap1
             ip link set decap0 up
             ip link set decap1 address 02:00:00:00:04:01 up");
        let mut command = self.inside.command(program("fulcrum-lab"));
        command.args(["decap", "decap0", "02:00:00:00:04:01"]);
        self.start(&mut command, "decap").wait_said("ready", Duration::from_secs(5));
    }

    /// What was uploaded under a name.
    pub fn uploaded(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.directory.join("up").join(name)).ok()
    }

    #[track_caller]
    fn start(&mut self, command: &mut Command, what: &str) -> &Process {
        let log = self.lab().join(format!("{}.{what}.log", self.name));
        self.processes.push(Process::start(command, log));
        &self.processes[self.processes.len() - 1]
    }

    fn lab(&self) -> &Path {
        self.directory.parent().expect("it lies in the lab's directory")
    }
}

/// Writes the large file of a lab, once; the same bytes every time, none like their neighbours.
pub fn big_file(lab: &Path) -> PathBuf {
    let path = lab.join("big");
    if !path.exists() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut bytes = Vec::with_capacity(BIG);
        while bytes.len() < BIG {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend(state.to_le_bytes());
        }
        fs::write(&path, bytes).expect("the lab's directory is writable");
    }
    path
}
