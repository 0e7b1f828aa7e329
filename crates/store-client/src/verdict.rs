//! Says in a few words whether messages can be stored now, and if not, why not and what to do.

use protocol::store::client_api::StoreStatus;

/// Returns the number of datanodes that there should be. Further ones may have joined.
pub fn expected(status: &StoreStatus) -> usize {
    status.expected.max(status.datanodes.len())
}

/// Returns the verdict as a line for people.
pub fn of(status: &StoreStatus) -> String {
    let StoreStatus { operative, available, replicas, .. } = status;
    let draining = status.datanodes.iter().filter(|datanode| datanode.draining).count();
    let verdict = format!("{operative} de {} operativos", expected(status));
    if status.stores_messages() {
        return format!("{verdict}; se guardan mensajes");
    }
    let what_to_do = if operative.saturating_sub(draining) < *replicas {
        "arranque más datanodes"
    } else {
        "el headnode no logra conectarse a los demás"
    };
    format!(
        "{verdict}; no se guardan mensajes: disponibles {available}, hacen falta {replicas}; {what_to_do}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_whether_messages_are_stored_or_else_why_not_and_what_to_do() {
        let mut status = StoreStatus {
            datanodes: Vec::new(),
            operative: 0,
            available: 0,
            expected: 3,
            replicas: 0,
            messages: 0,
            round: 1,
            epoch: None,
        };
        let verdict = |operative, available, replicas| {
            of(&StoreStatus { operative, available, replicas, ..status.clone() })
        };
        assert_eq!(verdict(2, 2, 1), "2 de 3 operativos; se guardan mensajes");
        assert_eq!(
            verdict(1, 1, 2),
            "1 de 3 operativos; no se guardan mensajes: disponibles 1, hacen falta 2; arranque más datanodes"
        );
        assert_eq!(
            verdict(2, 1, 2),
            "2 de 3 operativos; no se guardan mensajes: disponibles 1, hacen falta 2; el headnode no logra \
             conectarse a los demás"
        );
        let drained = r#"{"name":"d2","state":"available","records":0,"lost":0,"free_bytes":9,"round_trip_us":9,"draining":true}"#;
        status.datanodes.push(serde_json::from_str(drained).unwrap());
        let (operative, available, replicas) = (2, 1, 2);
        assert_eq!(
            of(&StoreStatus { operative, available, replicas, ..status }),
            "2 de 3 operativos; no se guardan mensajes: disponibles 1, hacen falta 2; arranque más datanodes"
        );
    }
}
