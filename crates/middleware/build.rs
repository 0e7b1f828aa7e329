//! Makes the gRPC client and server of `proto/middleware.proto`. The compiler is a library, so that nobody needs protoc.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto/middleware.proto");
    let descriptors = protox::compile(["middleware.proto"], ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
