//! The `millrace` binary: everything is in the library.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // The one TLS provider, before anything can ask for another.
    drop(rustls::crypto::ring::default_provider().install_default());
    millrace::cli::run()
}
