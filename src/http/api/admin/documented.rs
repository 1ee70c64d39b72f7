//! What the OpenAPI document says of parameters that many operations take, written once.

use std::{collections::HashMap, mem};

use poem::{endpoint::BoxEndpoint, http::Method};
use poem_openapi::{
    OpenApi,
    registry::{MetaApi, MetaOperationParam, MetaParamIn, MetaSchemaRef, Registry},
};

use super::params::{Limit, QueryValue};

/// The operations of `T`. Their arguments `page`, `if_match` and `idempotency_key` get the names
/// and descriptions that the parameters have on the wire.
#[derive(Clone, Debug, Default)]
pub struct Documented<T>(T);

impl<T: OpenApi> OpenApi for Documented<T> {
    fn meta() -> Vec<MetaApi> {
        let mut meta = T::meta();
        let paths = meta.iter_mut().flat_map(|api| &mut api.paths);
        for operation in paths.flat_map(|path| &mut path.operations) {
            let params = mem::take(&mut operation.params);
            operation.params = params.into_iter().flat_map(on_the_wire).collect();
        }
        meta
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn add_routes(self, table: &mut HashMap<String, HashMap<Method, BoxEndpoint<'static>>>) {
        self.0.add_routes(table);
    }
}

fn on_the_wire(param: MetaOperationParam) -> Vec<MetaOperationParam> {
    let (name, description) = match param.name.as_str() {
        "page" => ("cursor", "The `nextCursor` of the previous page."),
        "if_match" => ("If-Match", "The `ETag` of the state that was read, or `*` for any state."),
        "idempotency_key" => (
            "Idempotency-Key",
            "1 to 128 visible ASCII characters. A request repeated under the same key within 24 hours creates nothing new \
             and gets the same resource.",
        ),
        _ => return vec![param],
    };
    let limit = (name == "cursor").then(|| MetaOperationParam {
        name: "limit".to_owned(),
        description: Some("Maximum number of items in the page.".to_owned()),
        schema: MetaSchemaRef::Inline(Box::new(Limit::schema())),
        in_type: MetaParamIn::Query,
        required: false,
        deprecated: false,
        explode: true,
        style: None,
    });
    let named = MetaOperationParam {
        name: name.to_owned(),
        description: Some(description.to_owned()),
        ..param
    };
    limit.into_iter().chain([named]).collect()
}

/// The example of a schema, as JSON.
macro_rules! example {
    ($schema:ty, $json:tt) => {
        impl poem_openapi::types::Example for $schema {
            fn example() -> Self {
                serde_json::from_value(serde_json::json!($json))
                    .expect("the example fits its schema")
            }
        }
    };
}
pub(crate) use example;
