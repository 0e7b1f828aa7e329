//! XML-RPC's calls and responses as text, with limits that a parser which calls itself needs.

use dxr::{Fault, FaultResponse, MethodCall, MethodResponse, Value};
use memchr::{memchr, memchr_iter, memmem};

use super::method::MethodFault;

/// The caller's XML is no method call.
pub(crate) const BAD_CALL: i32 = -32_600;
/// There is no such method.
pub(crate) const NO_METHOD: i32 = -32_601;
/// The parameters are not those of the method.
pub(crate) const BAD_PARAMETERS: i32 = -32_602;
/// A value cannot be written as XML.
const BAD_VALUE: i32 = -32_603;

/// Elements within elements. A value in an array in an array is six of them.
const MAX_DEPTH: usize = 200;
/// Elements of one message, so that small bodies do not become large trees.
const MAX_ELEMENTS: usize = 1_000_000;

/// Reads a call.
pub(crate) fn read_call(body: &[u8]) -> Result<(String, Vec<Value>), MethodFault> {
    let bad = |cause: &str| MethodFault::new(BAD_CALL, format!("this is no XML-RPC call: {cause}"));
    let text = std::str::from_utf8(body).map_err(|_| bad("it is not UTF-8"))?;
    check_shape(body).map_err(bad)?;
    // The error would repeat the whole body.
    let call = MethodCall::from_xml(text).map_err(|_| bad("it is not a well-formed methodCall"))?;
    Ok((call.name.into_owned(), call.params))
}

/// Writes a call.
pub(crate) fn write_call(method: &'static str, parameters: Vec<Value>) -> Result<String, String> {
    let call = MethodCall { name: method.into(), params: parameters };
    let xml = call.to_xml().map_err(|error| error.to_string())?;
    Ok(format!("<?xml version=\"1.0\"?>\n{xml}"))
}

/// Writes what a method gave.
pub(crate) fn write_response(result: Result<Value, MethodFault>) -> String {
    let written = match result {
        Ok(value) => MethodResponse { value }
            .to_xml()
            .map_err(|error| MethodFault::new(BAD_VALUE, format!("the value cannot be sent: {error}"))),
        Err(fault) => Err(fault),
    };
    written.unwrap_or_else(|fault| {
        let text = fault.text.replace(|character: char| character.is_control() && character != '\n', " ");
        FaultResponse { fault: Fault::new(fault.code, text) }
            .to_xml()
            .expect("text without control characters is XML")
    })
}

/// Reads a response.
pub(crate) fn read_response(body: &[u8]) -> Result<Result<Value, MethodFault>, String> {
    let text = std::str::from_utf8(body).map_err(|_| "it is not UTF-8".to_owned())?;
    check_shape(body)?;
    let head = &body[..body.len().min(512)];
    if memmem::find(head, b"<fault>").is_some() {
        let fault =
            FaultResponse::from_xml(text).map_err(|_| "it is not a well-formed fault".to_owned())?.fault;
        return Ok(Err(MethodFault::new(fault.code(), fault.string())));
    }
    let response =
        MethodResponse::from_xml(text).map_err(|_| "it is not a well-formed response".to_owned())?;
    Ok(Ok(response.value))
}

/// Refuses what would take the parser's stack: it calls itself for every element in an element.
///
/// A tag that this counts too deep is refused; none is counted less deep than the parser goes. XML-RPC has no attributes,
/// comments, CDATA or entities of its own, in which tags could hide.
fn check_shape(body: &[u8]) -> Result<(), &'static str> {
    let (mut depth, mut elements, mut parsed) = (0_usize, 0_usize, 0);
    for start in memchr_iter(b'<', body) {
        if start < parsed {
            return Err("a tag stands within a tag");
        }
        let rest = &body[start..];
        let length = memchr(b'>', rest).ok_or("a tag has no end")? + 1;
        parsed = start + length;
        let tag = &rest[..length];
        match tag[1] {
            b'/' => depth = depth.saturating_sub(1),
            b'!' => return Err("it has a comment, CDATA or a DOCTYPE"),
            b'?' if tag.ends_with(b"?>") => {}
            _ if tag.contains(&b'"') || tag.contains(&b'\'') => return Err("an element has attributes"),
            _ if tag.ends_with(b"/>") => elements += 1,
            _ => (depth, elements) = (depth + 1, elements + 1),
        }
        if depth > MAX_DEPTH || elements > MAX_ELEMENTS {
            return Err("it has too many elements, or they stand too deep");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_responses_are_read_as_they_are_written() {
        let values = vec![
            Value::Nil,
            Value::Long(1 << 40),
            Value::Base64(vec![0, 255]),
            Value::String("<&>\n".into()),
        ];
        let call = write_call("compute", values.clone()).unwrap();
        assert_eq!(read_call(call.as_bytes()).unwrap(), ("compute".to_owned(), values.clone()));

        let value = Value::Array(values);
        assert_eq!(read_response(write_response(Ok(value.clone())).as_bytes()).unwrap(), Ok(value));
        let fault = MethodFault::new(7, "no \u{0} column \"x\"");
        let read = read_response(write_response(Err(fault)).as_bytes()).unwrap();
        assert_eq!(read, Err(MethodFault::new(7, "no   column \"x\"")));
    }

    #[test]
    fn the_bytes_of_a_call_are_these() {
        let call = write_call("more", vec![Value::String("01".into()), Value::Integer(2)]).unwrap();
        assert_eq!(
            call,
            "<?xml version=\"1.0\"?>\n<methodCall><methodName>more</methodName><params>\
             <param><value><string>01</string></value></param><param><value><i4>2</i4></value></param></params></methodCall>"
        );
    }

    #[test]
    fn what_would_take_the_stack_is_refused() {
        let deep = format!("<methodCall>{}", "<value><array><data>".repeat(1_000_000));
        assert!(read_call(deep.as_bytes()).unwrap_err().text.contains("too deep"));
        for hidden in ["<!--", "<![CDATA[", "<value a=\"/>\">", "<?x </a>", "<a", "\u{0}", ""] {
            assert!(read_call(hidden.as_bytes()).is_err(), "{hidden}");
        }
        assert!(read_call(&[0xff]).is_err());
    }
}
