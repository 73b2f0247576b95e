"""Eight writers with a ledger, and the comparison of the ledger with what is stored.

A writer does one thing at a time, so that at most its last one is without an answer: that one may have happened or not,
unless it had an idempotency key and was repeated: then it has happened exactly once.
Everything else must be exactly as it was acknowledged.
"""

import http.client
import json
import random
import threading
import time

WRITERS = 8

# A server that has just started may be waiting for its database.
REPETITIONS_MAX = 50


class Writer(threading.Thread):
    """Makes, changes and deletes things of its own until the server is gone."""

    def __init__(self, address, key, name, seed):
        super().__init__(daemon=True)
        self.address, self.key, self.prefix = address, key, name
        self.random = random.Random(seed)
        # id -> (kind, value); None: deleted.
        self.known = {}
        # What was sent last and has no answer: (kind, id or None, value).
        self.pending = None
        self.acknowledged = 0
        self.refused = []

    def run(self):
        self.connection = http.client.HTTPConnection(self.address, timeout=20)
        try:
            for turn in range(1_000_000):
                self.one(turn)
        except (OSError, http.client.HTTPException):
            pass

    def one(self, turn):
        alive = [(key, kind) for key, (kind, value) in self.known.items() if value is not None]
        name, act = f"{self.prefix}-{turn}", self.random.random()
        if len(alive) < 3 or act < 0.5:
            kind = self.random.choice(["system", "system", "application"])
            value = name if kind == "system" else "applications"
            fields = {"name": name} if kind == "system" else {"name": name, "roles": []}
            self.ask(kind, None, value, f"create{kind.title()}", fields)
            return
        key, kind = self.random.choice(alive)
        if act < 0.8 and kind == "system":
            self.ask(kind, key, name, "updateSystem", {"id": key, "data": {"name": name}})
        elif act < 0.8:
            roles = self.random.choice([["reader"], ["operator"], ["operator", "reader"]])
            value = ",".join(sorted(["applications", *roles]))
            self.ask(kind, key, value, "updateApplication", {"id": key, "roles": ["applications", *roles]})
        else:
            self.ask(kind, key, None, f"delete{kind.title()}", key)

    def ask(self, kind, key, value, procedure, given):
        self.pending, self.call = (kind, key, value), (procedure, given)
        # Every second call may be repeated by whoever has no answer to it.
        self.idempotency_key = f"{self.prefix}-{self.random.getrandbits(64)}" if self.random.random() < 0.5 else None
        status, body = self.send()
        if status == 200:
            self.acknowledge(body)
        elif status != 503:
            self.refused.append((procedure, status, body))
        elif "did not say" not in body["message"]:
            # Refused for certain; otherwise it stays pending, and the writer can go no further.
            self.pending = None
        if self.pending:
            raise OSError("an outcome is unknown")

    def send(self):
        procedure, given = self.call
        plugin = "catalog" if self.pending[0] == "system" else "auth"
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        if self.idempotency_key:
            headers["idempotency-key"] = self.idempotency_key
        self.connection.request("POST", f"/api/{plugin}/", json.dumps({procedure: given}), headers)
        answer = self.connection.getresponse()
        return answer.status, json.loads(answer.read())

    def acknowledge(self, body):
        kind, key, value = self.pending
        result = body[self.call[0]]
        key = key or (result["id"] if kind == "system" else result["application"]["id"])
        self.known[key] = (kind, value)
        self.acknowledged += 1
        self.pending = None

    def repeat(self, address):
        """Sends a call that has no answer once more, to the server that has started since: from then on its outcome is
        known. Whether it could be repeated."""
        if not self.pending or not self.idempotency_key:
            return False
        self.connection = http.client.HTTPConnection(address, timeout=20)
        for _ in range(REPETITIONS_MAX):
            status, body = self.send()
            if status == 200:
                self.acknowledge(body)
                return True
            if status != 503:
                break
            time.sleep(0.1)
        self.refused.append(("repeated", self.call[0], status, body))
        return True


class Ledger:
    """What the writers know, frozen."""

    def __init__(self, writers):
        self.known, self.pending, self.acknowledged, self.refused = {}, [], 0, []
        for writer in writers:
            self.known.update(writer.known)
            self.pending += [writer.pending] if writer.pending else []
            self.acknowledged += writer.acknowledged
            self.refused += writer.refused


def stored(rows):
    """Everything that is stored: id -> (kind, value). `rows` runs a query."""
    found = {key: ("system", name) for key, name in rows("select {id}, name from catalog_system")}
    roles = {}
    for key, role in rows("select {application_id}, role_id from auth_application_role"):
        roles.setdefault(key, []).append(role)
    for key, _ in rows("select {id}, name from auth_application where name <> 'bootstrap'"):
        found[key] = ("application", ",".join(sorted(roles.get(key, []))))
    return found


def compare(ledger, before, rows):
    """The sentences that say what is wrong, and everything that is stored."""
    now, wrong = stored(rows), []
    expected = {key: value for key, value in {**before, **ledger.known}.items() if value[1] is not None}
    pending = {key: (kind, value) for kind, key, value in ledger.pending if key}
    made = {(kind, value) for kind, key, value in ledger.pending if key is None}
    for key in expected.keys() | now.keys():
        allowed = [expected.get(key)]
        if key in pending:
            allowed.append(pending[key] if pending[key][1] is not None else None)
        if key not in expected and now.get(key) in made:
            continue
        if now.get(key) not in allowed:
            wrong.append(f"{key}: acknowledged {allowed}, stored {now.get(key)}")
    wrong += half_applied(now, rows)
    wrong += [f"refused: {refusal}" for refusal in ledger.refused]
    return wrong, now


def half_applied(now, rows):
    """A thing and its entries in the change feed are there together."""
    entries, sequences, wrong = {}, [], []
    for sequence, kind, resource in rows("select sequence, kind, resource from change order by sequence"):
        sequences.append(int(sequence))
        entries.setdefault(resource.replace("-", ""), []).append(kind.split(".")[1])
    if sequences != list(range(1, len(sequences) + 1)):
        wrong.append("the change feed has gaps")
    for key in now:
        if entries.get(key, []).count("created") != 1 or "deleted" in entries.get(key, []):
            wrong.append(f"{key} is stored, and the feed says {entries.get(key)}")
    for key, told in entries.items():
        is_here = key in now or key == BOOTSTRAP.get("id") or " " in key
        if not is_here and "deleted" not in told:
            wrong.append(f"the feed says {told} of {key}, and it is not stored")
    return wrong


# The application of the first start is nobody's work here.
BOOTSTRAP = {}


def normal(key):
    return key.replace("-", "").lower()
