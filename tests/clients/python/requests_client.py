"""Calls Checkmate with requests, through the function that the documentation gives to Python programs."""

import os

import requests

from check import expect

API_BASE = os.environ["CHECKMATE_URL"]
API_KEY = os.environ["CHECKMATE_KEY"]
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"


# The documentation's function, word for word.
def call_rpc(plugin_id: str, procedure: str, input_data=None):
    response = requests.post(
        f"{API_BASE}/api/{plugin_id}/",
        headers={
            "Authorization": f"Bearer {API_KEY}",
            "Content-Type": "application/json",
        },
        json={procedure: input_data or {}},
    )
    response.raise_for_status()
    return response.json()[procedure]


def main():
    system = call_rpc("catalog", "createSystem", {"name": "from requests", "metadata": {"tier": 1}})
    expect("a system is created", (system["name"], system["owner"], system["metadata"]),
           ("from requests", None, {"tier": 1}))

    call_as(os.environ["CHECKMATE_READER_KEY"])
    systems = call_rpc("catalog", "getSystems")
    expect("the list has it", system in systems, True)
    expect("it reads back the same", call_rpc("catalog", "getSystem", {"systemId": system["id"]}), system)
    expect("403 without the permission", refusal("createSystem", {"name": "x"}),
           (403, {"code": "FORBIDDEN", "message": "Missing permission: catalog.catalog.manage"}))

    call_as(os.environ["CHECKMATE_KEY"])
    expect("it is deleted", call_rpc("catalog", "deleteSystem", system["id"]), {"success": True})
    expect("404 for an unknown id", refusal("getSystem", {"systemId": UNKNOWN_ID}),
           (404, {"code": "NOT_FOUND", "message": f"System not found: {UNKNOWN_ID}"}))
    expect("400 for a blank name", refusal("createSystem", {"name": " "}),
           (400, {"code": "BAD_REQUEST", "message": "Input validation failed: name: Required",
                  "data": {"issues": [{"path": ["name"], "message": "Required"}]}}))

    call_as(os.environ["CHECKMATE_KEY"] + "x")
    expect("401 with a bad key", refusal("getSystems"),
           (401, {"code": "UNAUTHORIZED", "message": "Invalid API key"}))

    # The documented function always sends a credential, so this call is made without it.
    answer = requests.post(f"{API_BASE}/api/catalog/", json={"getSystems": {}})
    expect("401 without a key", (answer.status_code, answer.json()),
           (401, {"code": "UNAUTHORIZED", "message": "Authentication required"}))


def call_as(key):
    global API_KEY
    API_KEY = key


def refusal(procedure, input_data=None):
    """Status and body of the error that the documented function raises."""
    try:
        return call_rpc("catalog", procedure, input_data)
    except requests.HTTPError as error:
        return error.response.status_code, error.response.json()


main()
