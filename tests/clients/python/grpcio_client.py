"""Calls Checkmate with grpcio, without generated code: the messages are built from what server reflection tells."""

import os

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

from check import expect

ADMIN = [("authorization", f"Bearer {os.environ['CHECKMATE_KEY']}")]
READER = [("authorization", f"Bearer {os.environ['CHECKMATE_READER_KEY']}")]
BAD_KEY = [("authorization", f"Bearer {os.environ['CHECKMATE_KEY']}x")]
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


def main():
    with grpc.insecure_channel(os.environ["CHECKMATE_URL"].removeprefix("http://")) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        expect("reflection lists the catalog", "checkmate.catalog.v1.CatalogService" in database.get_services(), True)
        catalog = Catalog(channel, DescriptorPool(database))
        procedures(catalog)
        errors(catalog)
        health = health_pb2_grpc.HealthStub(channel)
        deadlines(catalog, health)
        serving(health)


def procedures(catalog):
    created = catalog.call("CreateSystem", ADMIN, name="from grpcio", metadata={"tier": 1}).system
    expect("a system is created", (created.name, created.HasField("owner"), created.metadata["tier"]),
           ("from grpcio", False, 1))
    expect("the list has it", created in catalog.call("GetSystems", READER).systems, True)
    expect("it reads back the same", catalog.call("GetSystem", READER, system_id=created.id).system, created)
    expect("it is deleted", catalog.call("DeleteSystem", ADMIN, id=created.id).success, True)


def errors(catalog):
    expect("UNAUTHENTICATED without a key", catalog.refusal("GetSystems", []),
           (grpc.StatusCode.UNAUTHENTICATED, "Authentication required"))
    expect("UNAUTHENTICATED with a bad key", catalog.refusal("GetSystems", BAD_KEY),
           (grpc.StatusCode.UNAUTHENTICATED, "Invalid API key"))
    expect("PERMISSION_DENIED without the permission", catalog.refusal("CreateSystem", READER, name="x"),
           (grpc.StatusCode.PERMISSION_DENIED, "Missing permission: catalog.catalog.manage"))
    expect("NOT_FOUND for an unknown id", catalog.refusal("GetSystem", ADMIN, system_id=UNKNOWN_ID),
           (grpc.StatusCode.NOT_FOUND, f"System not found: {UNKNOWN_ID}"))
    expect("INVALID_ARGUMENT for a blank name, with the field in its details",
           catalog.refusal("CreateSystem", ADMIN, name=" "),
           (grpc.StatusCode.INVALID_ARGUMENT, "Input validation failed: name: Required", [("name", "Required")]))


def deadlines(catalog, health):
    expect("a call within its deadline succeeds", len(catalog.call("GetGroups", READER, timeout=10).groups), 0)
    # Watching has no end of its own.
    changes = health.Watch(health_pb2.HealthCheckRequest(), timeout=0.3)
    expect("a watch tells the first state before its deadline", next(changes).status,
           health_pb2.HealthCheckResponse.SERVING)
    expect("DEADLINE_EXCEEDED ends it", changes.code(), grpc.StatusCode.DEADLINE_EXCEEDED)


def serving(health):
    for service in ["", "checkmate.catalog.v1.CatalogService"]:
        answer = health.Check(health_pb2.HealthCheckRequest(service=service))
        expect(f"the health of {service or 'the server'} is SERVING", answer.status,
               health_pb2.HealthCheckResponse.SERVING)


class Catalog:
    """The catalog service, its methods found by name."""

    def __init__(self, channel, pool):
        self.channel = channel
        self.service = pool.FindServiceByName("checkmate.catalog.v1.CatalogService")

    def call(self, procedure, metadata, /, timeout=None, **fields):
        method = self.service.methods_by_name[procedure]
        request = message_factory.GetMessageClass(method.input_type)
        response = message_factory.GetMessageClass(method.output_type)
        call = self.channel.unary_unary(
            f"/{self.service.full_name}/{procedure}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        return call(request(**fields), metadata=metadata, timeout=timeout)

    def refusal(self, procedure, metadata, /, **fields):
        """Code and message of the error, and its field violations if there are any."""
        try:
            return self.call(procedure, metadata, **fields)
        except grpc.RpcError as error:
            violations = field_violations(error)
            return (error.code(), error.details(), *([violations] if violations else []))


def field_violations(error):
    status = rpc_status.from_call(error)
    bad_request = error_details_pb2.BadRequest()
    return [
        (violation.field, violation.description)
        for detail in (status.details if status else [])
        if detail.Unpack(bad_request)
        for violation in bad_request.field_violations
    ]


main()
