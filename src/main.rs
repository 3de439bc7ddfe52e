//! The `millrace` binary. All code is in the library.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // This must run before any TLS connection: the process has one provider, the first that is installed.
    drop(rustls::crypto::ring::default_provider().install_default());
    millrace::cli::run()
}
