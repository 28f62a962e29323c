//! The program `fulcrum`, also called `ipvsadm`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    fulcrum_cli::command::main().await
}
