//! Generates the gRPC code from `proto/atone.proto`. protox is a protobuf compiler in Rust, so that no system `protoc`
//! is needed.

use std::error::Error;

use prost::Message;
use tonic_prost_build::FileDescriptorSet;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/atone.proto");
    let descriptors = protox::compile(["proto/atone.proto"], ["proto"])?;
    let bytes = descriptors.encode_to_vec();
    let mut descriptors = FileDescriptorSet::decode(bytes.as_slice())?;
    leave_registrations_encoded(&mut descriptors)?;
    tonic_prost_build::configure().bytes(".atone.v1.ProxyMessage").compile_fds(descriptors)?;
    Ok(())
}

/// `TYPE_BYTES` of `google.protobuf.FieldDescriptorProto.Type`.
const TYPE_BYTES: i32 = 12;

/// Makes the field of a registration in a stream's messages bytes, which is the same on the wire. Registrations may be
/// large: they are encoded and decoded beside the stream, so that they do not hold it up.
fn leave_registrations_encoded(descriptors: &mut FileDescriptorSet) -> Result<(), String> {
    let messages = descriptors.file.iter_mut().flat_map(|file| &mut file.message_type);
    let fields =
        messages.filter(|message| message.name() == "ProxyMessage").flat_map(|message| &mut message.field);
    let mut registrations = fields.filter(|field| field.name() == "register");
    let field = registrations.next().ok_or("ProxyMessage has no field register")?;
    field.r#type = Some(TYPE_BYTES);
    field.type_name = None;
    Ok(())
}
