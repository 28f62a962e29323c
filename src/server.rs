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
    /// By what they are called.
    processes: Vec<(String, Process)>,
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

    /// Starts nginx beside [`Server::serve_http`] with `body` in its `http` block, as `name`.
    #[track_caller]
    pub fn serve_http_like(&mut self, name: &str, body: &str, ports: &[u16]) {
        let here = self.directory.display();
        let configuration = format!(
            "daemon off; user root; worker_processes 1;
             pid {here}/{name}.pid; error_log {}/{}.{name}.error.log warn;
             events {{ }}
             http {{
               client_body_temp_path {here}/body; proxy_temp_path {here}/proxy;
               fastcgi_temp_path {here}/fcgi; uwsgi_temp_path {here}/uwsgi; scgi_temp_path {here}/scgi;
               default_type text/plain;
               {body}
             }}\n",
            self.lab().display(),
            self.name,
        );
        let file = self.directory.join(format!("{name}.conf"));
        fs::write(&file, configuration).expect("the lab's directory is writable");
        let mut command = self.inside.command("nginx");
        command.arg("-c").arg(&file).arg("-p").arg(&self.directory);
        self.start(&mut command, name);
        ports.iter().for_each(|port| wait_listening(&self.inside, "tcp", *port));
    }

    /// Starts vsftpd: anonymous clients find the file `name`, which tells the server's, the large file `big`, and
    /// may upload to `up`.
    #[track_caller]
    pub fn serve_ftp(&mut self) {
        let (root, empty) = (self.directory.join("ftp"), self.directory.join("empty"));
        for directory in [&root, &empty] {
            fs::create_dir_all(directory).expect("the lab's directory is writable");
        }
        fs::write(root.join("name"), format!("{}\n", self.name)).expect("the lab's directory is writable");
        let _ = fs::hard_link(big_file(self.lab()), root.join("big"));
        let up = root.join("up");
        self.inside.sh(&format!("mkdir -p {0}; chown ftp {0}", up.display()));
        let configuration = format!(
            "listen=NO\nlisten_ipv6=YES\nbackground=NO\nanonymous_enable=YES\nlocal_enable=NO\n\
             no_anon_password=YES\nanon_root={}\nsecure_chroot_dir={}\nftp_username=ftp\nnopriv_user=nobody\n\
             write_enable=YES\nanon_upload_enable=YES\nseccomp_sandbox=NO\nconnect_from_port_20=YES\n\
             pasv_enable=YES\nxferlog_enable=NO\n",
            root.display(),
            empty.display()
        );
        let file = self.directory.join("vsftpd.conf");
        fs::write(&file, configuration).expect("the lab's directory is writable");
        let mut command = self.inside.command("vsftpd");
        command.arg(&file);
        self.start(&mut command, "ftp");
        wait_listening(&self.inside, "tcp", 21);
    }

    /// Starts haproxy with `body` after its defaults, which log each request to the haproxy log of this server.
    #[track_caller]
    pub fn serve_by_haproxy(&mut self, body: &str, port: u16) {
        let configuration = format!(
            "global\n  log stdout format raw local0\ndefaults\n  mode http\n  log global\n  \
             timeout connect 5s\n  timeout client 10s\n  timeout server 10s\n{body}\n"
        );
        let file = self.directory.join("haproxy.cfg");
        fs::write(&file, configuration).expect("the lab's directory is writable");
        let mut command = self.inside.command("haproxy");
        command.arg("-db").arg("-f").arg(&file);
        self.start(&mut command, "haproxy");
        wait_listening(&self.inside, "tcp", port);
    }

    /// Kills what was started under a name, as a crash would.
    pub fn kill(&mut self, what: &str) {
        self.processes
            .extract_if(.., |(name, _)| name == what)
            .for_each(|(_, mut process)| process.kill_all());
    }

    /// What one of its programs has said.
    pub fn log(&self, what: &str) -> String {
        fs::read_to_string(self.lab().join(format!("{}.{what}.log", self.name))).unwrap_or_default()
    }

    /// Starts a UDP server at an address and its twin.
    #[track_caller]
    pub fn serve_udp(&mut self, address: &str, port: u16) {
        let mut command = self.inside.command(program("fulcrum-lab"));
        command.args(["serve-udp", &self.name]);
        command.args([Family::V4, Family::V6].map(|family| format!("{}:{port}", family.host(address))));
        self.start(&mut command, &format!("udp{port}-{address}")).wait_said("ready", Duration::from_secs(30));
    }

    /// Starts an SCTP server at an address and its twin.
    #[track_caller]
    pub fn serve_sctp(&mut self, address: &str, port: u16) {
        for family in [Family::V4, Family::V6] {
            let mut command = self.inside.command(program("fulcrum-lab"));
            command.args(["serve-sctp", &format!("{}:{port}", family.host(address)), &self.name]);
            self.start(&mut command, &format!("sctp{port}-{}", family.address(address)))
                .wait_said("ready", Duration::from_secs(30));
        }
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
        self.start(&mut command, "decap").wait_said("ready", Duration::from_secs(30));
    }

    /// What was uploaded under a name, by HTTP or FTP.
    pub fn uploaded(&self, name: &str) -> Option<Vec<u8>> {
        let places = [self.directory.join("up"), self.directory.join("ftp/up")];
        places.iter().find_map(|place| fs::read(place.join(name)).ok())
    }

    /// Removes an upload.
    pub fn forget_upload(&self, name: &str) {
        for place in [self.directory.join("up"), self.directory.join("ftp/up")] {
            let _ = fs::remove_file(place.join(name));
        }
    }

    #[track_caller]
    fn start(&mut self, command: &mut Command, what: &str) -> &Process {
        let log = self.lab().join(format!("{}.{what}.log", self.name));
        self.processes.push((what.to_owned(), Process::start(command, log)));
        &self.processes[self.processes.len() - 1].1
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
