//! Generates the gRPC code from `proto/atone.proto`. protox is a protobuf compiler in Rust, so that no system `protoc` is needed.

use std::error::Error;

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/atone.proto");
    let descriptors = protox::compile(["proto/atone.proto"], ["proto"])?;
    let bytes = descriptors.encode_to_vec();
    let descriptors = Message::decode(bytes.as_slice())?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
