"""Follows incidents with requests (server-sent events) and with grpcio, and resumes where it stopped."""

import json
import os

import grpc
import requests
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from check import expect

API_BASE = os.environ["CHECKMATE_URL"]
ADMIN = {"Authorization": f"Bearer {os.environ['CHECKMATE_KEY']}"}
READER = {"Authorization": f"Bearer {os.environ['CHECKMATE_READER_KEY']}"}


def main():
    system = call("catalog", "createSystem", {"name": "followed"})["id"]
    events = server_sent()
    expect("the state is complete at once", [name for name, *_ in until(events, "synced")][-1], "synced")
    incident = call("incident", "createIncident", {"title": "down", "severity": "major", "systemIds": [system]})["id"]
    name, cursor, data = next(events)
    expect("an incident that is opened is told", (name, data["incidentId"], data["cursor"]),
           ("created", incident, cursor))
    call("incident", "resolveIncident", {"id": incident})
    resumed = server_sent({"Last-Event-ID": cursor})
    name, resolved_at, data = next(resumed)
    expect("after the last event that was read comes the next", (name, data["incident"]["status"]),
           ("updated", "resolved"))

    with grpc.insecure_channel(API_BASE.removeprefix("http://")) as channel:
        stream = watch(channel, cursor=cursor)
        message = next(stream)
        expect("grpcio resumes from the same cursor", (message.incident_id, message.cursor), (incident, resolved_at))
        call("incident", "deleteIncident", incident)
        expect("and hears of the end", next(stream).incident_id, incident)
        stream.cancel()
    call("catalog", "deleteSystem", system)


def call(plugin, procedure, data):
    answer = requests.post(f"{API_BASE}/api/{plugin}/", headers=ADMIN, json={procedure: data}, timeout=10)
    answer.raise_for_status()
    return answer.json()[procedure]


def server_sent(headers=None):
    """Name, id and data of each event."""
    url = f"{API_BASE}/api/incident/watchIncidents"
    answer = requests.get(url, headers={**READER, **(headers or {})}, stream=True, timeout=20)
    answer.raise_for_status()
    event = {}
    for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
        field, _, value = line.partition(": ")
        if field:
            event[field] = value
        elif "data" in event:
            yield event["event"], event.get("id"), json.loads(event["data"])
            event = {}


def until(events, name):
    for event in events:
        yield event
        if event[0] == name:
            return


def watch(channel, **fields):
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    service = pool.FindServiceByName("checkmate.incident.v1.IncidentService")
    method = service.methods_by_name["WatchIncidents"]
    request = message_factory.GetMessageClass(method.input_type)
    call = channel.unary_stream(
        f"/{service.full_name}/{method.name}",
        request_serializer=request.SerializeToString,
        response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
    )
    return call(request(**fields), metadata=[("authorization", READER["Authorization"])], timeout=20)


main()
