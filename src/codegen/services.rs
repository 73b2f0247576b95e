//! The method table, and for every service its two faces: gRPC with validation in front, and JSON dispatch.

use super::Result;
use super::model::{Contract, FieldKind, Message, Method, Plugin, Service, rust_path};
use super::schema;
use heck::{ToShoutySnakeCase, ToSnakeCase, ToUpperCamelCase};
use std::fmt::Write;

pub(super) fn write(contract: &Contract) -> Result<String> {
    let mut code = String::new();
    let mut tables = vec![];
    for service in &contract.services {
        write_table(&mut code, contract, service)?;
        write_grpc(&mut code, service)?;
        write_json(&mut code, contract, service)?;
        write_events(&mut code, contract, service)?;
        write_mount(&mut code, service)?;
        tables.push(service.name.to_shouty_snake_case());
    }
    writeln!(code, "/// The methods of every service.\npub static SERVICES: &[&[Method]] = &[{}];", tables.join(", "))?;
    write_plugins(&mut code, contract)?;
    Ok(code)
}

fn write_table(code: &mut String, contract: &Contract, service: &Service) -> Result<()> {
    writeln!(
        code,
        "/// The methods of `{}`.\npub static {}: &[Method] = &[",
        service.name,
        service.name.to_shouty_snake_case()
    )?;
    for method in &service.methods {
        writeln!(
            code,
            "Method {{ plugin: {:?}, name: {:?}, aliases: &{:?}, path: {:?}, doc: {:?}, permissions: &{:?},
               service_only: {}, open: {}, query: {}, streams: {}, depends_on: &{:?}, unpaged: {:?}, input_keys: &{:?}, input_schema: {:?}, output_schema: {:?} }},",
            service.plugin,
            method.json_name,
            method.aliases,
            method.path,
            method.doc,
            method.permissions,
            method.service_only,
            method.open,
            method.query,
            method.streams,
            method.depends_on,
            method.unpaged,
            input_keys(contract, method),
            schema::input(contract, method).to_string(),
            schema::output(contract, method).to_string(),
        )?;
    }
    writeln!(code, "];")?;
    Ok(())
}

fn input_keys<'c>(contract: &'c Contract, method: &Method) -> Vec<&'c String> {
    let fields = contract.messages.get(&method.input).into_iter().flat_map(Message::json_fields);
    fields.flat_map(|field| std::iter::once(&field.json_name).chain(&field.rules.aliases)).collect()
}

/// What tonic calls the type of a method's stream.
fn stream_type(method: &Method) -> String {
    format!("{}Stream", method.rust_name.to_upper_camel_case())
}

/// The trait that tonic generated for a service.
fn service_trait(service: &Service) -> String {
    let module = format!("crate::proto::{}", service.package.replace('.', "::"));
    format!("{module}::{}_server::{}", service.name.to_snake_case(), service.name)
}

fn write_grpc(code: &mut String, service: &Service) -> Result<()> {
    let mut methods = String::new();
    for method in &service.methods {
        let Method { rust_name, input, output, .. } = method;
        let mut reply = rust_path(output);
        if method.streams {
            let stream = stream_type(method);
            writeln!(methods, "type {stream} = T::{stream};")?;
            reply = format!("Self::{stream}");
        }
        writeln!(
            methods,
            "async fn {rust_name}(&self, request: tonic::Request<{}>)
                 -> Result<tonic::Response<{reply}>, tonic::Status> {{
                 self.service.{rust_name}(self.checks.request(request)?).await
             }}",
            rust_path(input),
        )?;
    }
    let (name, service_trait) = (&service.name, service_trait(service));
    writeln!(
        code,
        "struct {name}Grpc<T> {{ service: Arc<T>, checks: Checks }}
         #[tonic::async_trait]
         impl<T: {service_trait}> {service_trait} for {name}Grpc<T> {{ {methods} }}"
    )?;
    Ok(())
}

fn write_json(code: &mut String, contract: &Contract, service: &Service) -> Result<()> {
    let (mut arms, mut streams, mut canonical) = (String::new(), String::new(), String::new());
    for method in &service.methods {
        writeln!(
            canonical,
            "{:?} => crate::contract::dispatch::canonical::<{}>(message),",
            method.path,
            rust_path(&method.input)
        )?;
        let field = |message: &str, name: &Option<String>| {
            let fields = contract.messages.get(message).map_or(&[][..], |message| &message.fields);
            fields.iter().find(|field| Some(&field.proto_name) == name.as_ref())
        };
        let bare = field(&method.input, &method.bare_input).map(|field| field.json_name.as_str());
        if method.streams {
            writeln!(
                streams,
                "{:?} => {{
                    let message: {} = self.checks.input(input, {bare:?})?;
                    Ok(Stream::new(admitted, message, move |request| async move {{ service.{}(request).await }}))
                 }}",
                method.path,
                rust_path(&method.input),
                method.rust_name
            )?;
            continue;
        }
        let pick = field(&method.output, &method.bare_output)
            .map_or_else(|| "reply".to_owned(), |f| format!("&reply.{}", f.rust_name));
        writeln!(
            arms,
            "{:?} => {{
                let message: {} = self.checks.input(input, {bare:?})?;
                Ok(Prepared::new(admitted, message,
                    move |request| async move {{ service.{}(request).await }}, |reply: &{}| {pick}))
             }}",
            method.path,
            rust_path(&method.input),
            method.rust_name,
            rust_path(&method.output)
        )?;
    }
    let (name, service_trait) = (&service.name, service_trait(service));
    let unknown = "path => Err(Error::bug(format!(\"{path} is not of this service\")))";
    if !streams.is_empty() {
        streams = format!(
            "fn follow(&self, admitted: Admitted, input: &Value<'_>) -> Result<Stream, Error> {{
                 let service = self.service.clone();
                 match admitted.method().path {{ {streams} {unknown} }}
             }}"
        );
    }
    writeln!(
        code,
        "struct {name}Json<T> {{ service: Arc<T>, checks: Checks }}
         impl<T: {service_trait}> Dispatch for {name}Json<T> {{
             fn prepare(&self, admitted: Admitted, input: &Value<'_>) -> Result<Prepared, Error> {{
                 let service = self.service.clone();
                 match admitted.method().path {{ {arms} {unknown} }}
             }}
             {streams}
             fn canonical(&self, path: &str, message: &[u8]) -> Option<Vec<u8>> {{
                 match path {{ {canonical} _ => None }}
             }}
         }}"
    )?;
    Ok(())
}

/// What transport needs to know of the messages of a stream.
fn write_events(code: &mut String, contract: &Contract, service: &Service) -> Result<()> {
    for method in service.methods.iter().filter(|method| method.streams) {
        let fields = contract.messages.get(&method.output).map_or(&[][..], |message| &message.fields);
        let names = fields.iter().find_map(|field| match &field.kind {
            FieldKind::Enum(name) if field.proto_name == "type" => Some(name.to_shouty_snake_case()),
            _ => None,
        });
        let names = names.ok_or_else(|| format!("{}: its messages have no type", method.path))?;
        writeln!(
            code,
            "impl Event for {} {{
                 fn cursor(&self) -> Option<&str> {{ self.cursor.as_deref() }}
                 fn name(&self) -> &'static str {{ encode::name(self.r#type, {names}) }}
             }}",
            rust_path(&method.output)
        )?;
    }
    Ok(())
}

fn write_mount(code: &mut String, service: &Service) -> Result<()> {
    let (name, service_trait) = (&service.name, service_trait(service));
    let server = format!("{service_trait}Server");
    writeln!(
        code,
        "/// Makes `{name}` answer on both protocols.
         pub fn mount_{}<T: {service_trait}>(service: T, mount: &mut Mount) {{
             let (service, checks) = (Arc::new(service), mount.checks.clone());
             let json = {name}Json {{ service: service.clone(), checks: checks.clone() }};
             let grpc = {server}::new({name}Grpc {{ service, checks }})
                 .max_decoding_message_size(mount.grpc_message_bytes_max);
             let json: Arc<dyn Dispatch> = Arc::new(json);
             mount.add(grpc, &json, {});
         }}",
        service.name.to_snake_case(),
        service.name.to_shouty_snake_case()
    )?;
    Ok(())
}

fn write_plugins(code: &mut String, contract: &Contract) -> Result<()> {
    let mut permissions: Vec<_> = contract.plugins.iter().flat_map(|plugin| &plugin.permissions).collect();
    permissions.sort_by(|a, b| a.id.cmp(&b.id));
    writeln!(code, "/// Every permission there is, by id.\npub static PERMISSIONS: &[Permission] = &[")?;
    for permission in permissions {
        writeln!(
            code,
            "Permission {{ id: {:?}, description: {:?}, synonyms: &{:?}, initial_roles: &{:?} }},",
            permission.id, permission.description, permission.synonyms, permission.initial_roles
        )?;
    }
    writeln!(code, "];\n/// Every plugin that has procedures, by id.\npub static PLUGINS: &[Plugin] = &[")?;
    let callable = |plugin: &&Plugin| contract.services.iter().any(|service| service.plugin == plugin.id);
    for plugin in contract.plugins.iter().filter(callable) {
        writeln!(code, "Plugin {{ id: {:?}, summary: {:?} }},", plugin.id, plugin.summary)?;
    }
    writeln!(code, "];")?;
    Ok(())
}
