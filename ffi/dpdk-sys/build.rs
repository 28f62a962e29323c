//! Finds DPDK with pkg-config, compiles the shim and generates the bindings.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// The DPDK libraries whose symbols are used; drivers are loaded by EAL at run time, never linked.
const LIBRARIES: &[&str] = &["rte_ethdev", "rte_mbuf", "rte_mempool", "rte_eal"];

fn main() {
    for file in ["build.rs", "shim.h", "shim.c"] {
        println!("cargo:rerun-if-changed={file}");
    }
    for variable in ["PKG_CONFIG", "PKG_CONFIG_PATH", "LIBCLANG_PATH"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }

    let cflags = pkg_config("--cflags");
    link();
    compile_shim(&cflags);
    generate_bindings(&cflags);
}

/// The words that pkg-config has for libdpdk.
fn pkg_config(question: &str) -> Vec<String> {
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_owned());
    let answer = Command::new(&program).args([question, "libdpdk >= 22.11"]).output();
    match answer {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
        }
        Ok(output) => give_up(&format!(
            "{program} does not know DPDK 22.11 or newer (Debian: apt-get install libdpdk-dev dpdk-dev):\n{}",
            String::from_utf8_lossy(&output.stderr)
        )),
        Err(error) => give_up(&format!("{program}: {error} (Debian: apt-get install pkg-config)")),
    }
}

fn link() {
    for word in pkg_config("--libs-only-L") {
        println!("cargo:rustc-link-search=native={}", word.trim_start_matches("-L"));
    }
    for library in LIBRARIES {
        println!("cargo:rustc-link-lib=dylib={library}");
    }
}

fn compile_shim(cflags: &[String]) {
    let mut shim = cc::Build::new();
    shim.file("shim.c").opt_level(3).warnings(true).flag_if_supported("-Wno-deprecated-declarations");
    for flag in cflags {
        shim.flag(flag);
    }
    shim.compile("fulcrum_dpdk_shim");
}

fn generate_bindings(cflags: &[String]) {
    point_to_libclang();
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("bindings.rs");
    let bindings = bindgen::Builder::default()
        .header("shim.h")
        .clang_args(cflags)
        .use_core()
        .layout_tests(false)
        .generate_comments(false)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .allowlist_function("fulcrum_.*")
        .allowlist_type("fulcrum_.*")
        .allowlist_var("FULCRUM_.*|RTE_MAX_LCORE|RTE_MAX_ETHPORTS|RTE_PKTMBUF_HEADROOM")
        .allowlist_function(
            "rte_eal_init|rte_eal_cleanup|rte_eal_has_hugepages|rte_eal_remote_launch|rte_eal_wait_lcore",
        )
        .allowlist_function("rte_lcore_to_socket_id")
        .allowlist_function("rte_version|rte_strerror|rte_eal_get_runtime_dir")
        .allowlist_function("rte_dev_probe|rte_eth_dev_get_port_by_name|rte_eth_dev_socket_id")
        .allowlist_function("rte_eth_dev_(start|stop|close|set_mtu|get_mtu|default_mac_addr_set|set_link_up)")
        .allowlist_function("rte_eth_promiscuous_enable")
        .allowlist_function("rte_eth_dev_rx_intr_(enable|disable)")
        .allowlist_function("rte_eth_allmulticast_enable")
        // Layouts that differ between DPDK versions stay opaque: the shim knows them.
        .opaque_type("rte_mbuf|rte_mempool")
        .generate();
    match bindings {
        Ok(bindings) => {
            if let Err(error) = bindings.write_to_file(&out) {
                give_up(&format!("{}: {error}", out.display()));
            }
        }
        Err(error) => give_up(&format!("bindgen: {error} (Debian: apt-get install clang libclang-dev)")),
    }
}

/// bindgen looks in a few places only; where it is not told, take the newest of Debian's LLVM folders.
fn point_to_libclang() {
    if env::var_os("LIBCLANG_PATH").is_some() {
        return;
    }
    let newest = (11..=30).rev().map(|version| format!("/usr/lib/llvm-{version}/lib")).find(|folder| {
        Path::new(folder).join("libclang.so").exists() || Path::new(folder).join("libclang.so.1").exists()
    });
    if let Some(folder) = newest {
        // SAFETY: a build script is single-threaded here; nobody else reads the environment meanwhile.
        unsafe { env::set_var("LIBCLANG_PATH", folder) };
    }
}

fn give_up(why: &str) -> ! {
    eprintln!("error: {why}");
    exit(1)
}
