"""Kills a server, or cuts its power, while eight writers keep it busy; see kill.sh and power.sh."""

import argparse
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ledger
from ledger import Ledger, Writer, compare, normal

LEDGER_PATIENCE_S = 0.3


class Sqlite:
    """A file in a folder."""

    name = "SQLite"

    def __init__(self, folder, weak):
        self.folder = folder

    def url(self):
        return f"sqlite://{self.folder}/checkmate.db"

    def start(self):
        pass

    stop = kill = start

    def processes(self):
        return []

    def moved_to(self, folder):
        return Sqlite(folder, False)

    def rows(self, query):
        query = query.replace("{id}", "lower(hex(id))").replace("{application_id}", "lower(hex(application_id))")
        connection = sqlite3.connect(f"file:{self.folder}/checkmate.db?mode=ro", uri=True)
        try:
            return [tuple(map(str, row)) for row in connection.execute(query)]
        finally:
            connection.close()

    def is_whole(self):
        return self.rows("pragma integrity_check") == [("ok",)]


class Postgres:
    """A cluster in a folder, with the settings of a fresh one."""

    name = "PostgreSQL"

    def __init__(self, folder, weak, port=None):
        self.folder, self.weak, self.port = folder, weak, port or free_port()
        self.programs = max(Path("/usr/lib/postgresql").iterdir(), key=lambda path: int(path.name)) / "bin"
        if not (folder / "data").exists():
            folder.chmod(0o777)
            self.run(f"{self.programs}/initdb -A trust -U postgres -D {folder}/data")

    def run(self, line):
        who = ["su", "postgres", "-s", "/bin/bash"] if os.geteuid() == 0 else ["bash"]
        done = subprocess.run([*who, "-c", f"{line} >>{self.folder}/log 2>&1 </dev/null"])
        if done.returncode:
            sys.exit((self.folder / "log").read_text()[-2000:])

    def url(self):
        weak = "?options=-c%20synchronous_commit%3Doff" if self.weak else ""
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres{weak}"

    def start(self):
        options = f"-p {self.port} -c unix_socket_directories= -c listen_addresses=127.0.0.1"
        self.run(f"{self.programs}/pg_ctl -w -D {self.folder}/data -o '{options}' start")

    def stop(self):
        self.run(f"{self.programs}/pg_ctl -w -m fast -D {self.folder}/data stop")

    def processes(self):
        """The postmaster and its children."""
        first = int((self.folder / "data/postmaster.pid").read_text().split()[0])
        found = [first]
        for process in filter(str.isdigit, os.listdir("/proc")):
            try:
                stat = Path(f"/proc/{process}/stat").read_text()
            except OSError:
                continue
            if stat.rsplit(") ", 1)[1].split()[1] == str(first):
                found.append(int(process))
        return found

    def kill(self):
        every(self.processes(), signal.SIGKILL)
        time.sleep(0.2)
        (self.folder / "data/postmaster.pid").unlink(missing_ok=True)

    def moved_to(self, folder):
        (folder / "data/postmaster.pid").unlink(missing_ok=True)
        return Postgres(folder, False)

    def rows(self, query):
        query = query.replace("{id}", "replace(id::text, '-', '')")
        query = query.replace("{application_id}", "replace(application_id::text, '-', '')")
        command = [self.programs / "psql", "-qAtX", "-F", "\t", "-h", "127.0.0.1", "-p", str(self.port)]
        done = subprocess.run([*command, "-U", "postgres", "-c", query], check=True, capture_output=True, text=True)
        return [tuple(line.split("\t")) for line in done.stdout.splitlines()]

    def is_whole(self):
        # What is damaged cannot be dumped; checksums are off in a fresh cluster.
        dump = [self.programs / "pg_dump", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres"]
        return subprocess.run(dump, stdout=subprocess.DEVNULL).returncode == 0


class Server:
    """The program under test."""

    key = None

    def __init__(self, program, database):
        settings = {"CHECKMATE_DATABASE": database.url(), "CHECKMATE_LISTEN": "127.0.0.1:0"}
        settings["CHECKMATE_INSTANCE_KEY"] = "ab" * 32
        started = time.monotonic()
        self.process = subprocess.Popen([program], env=settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in self.process.stdout:
            if line.strip().startswith("ck_"):
                Server.key = line.strip()
            if line.startswith("listening on http://"):
                self.address = line.strip().removeprefix("listening on http://")
                self.ready_s = time.monotonic() - started
                return
        sys.exit("the server does not start")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def writers(self, round, seed):
        names = [f"r{round}w{number}" for number in range(ledger.WRITERS)]
        return [Writer(self.address, self.key, name, f"{seed} {name}") for name in names]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def every(processes, number):
    for process in processes:
        try:
            os.kill(process, number)
        except ProcessLookupError:
            pass


def read_bootstrap(database):
    rows = database.rows("select {id}, name from auth_application where name = 'bootstrap'")
    ledger.BOOTSTRAP["id"] = rows[0][0]


def frozen(writers):
    writers_ledger = Ledger(writers)
    writers_ledger.known = {normal(key): value for key, value in writers_ledger.known.items()}
    writers_ledger.pending = [(kind, key and normal(key), value) for kind, key, value in writers_ledger.pending]
    return writers_ledger


def kill(arguments):
    """kill -9 at a random moment; with PostgreSQL every second time PostgreSQL itself, and the server with it."""
    chance, total, repeated, wrong, slowest = random.Random(arguments.seed), 0, 0, [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        database = arguments.database(Path(folder), False)
        database.start()
        before, server = {}, Server(arguments.program, database)
        read_bootstrap(database)
        for round in range(arguments.rounds):
            writers = server.writers(round, arguments.seed)
            for writer in writers:
                writer.start()
            time.sleep(chance.uniform(0.05, 1.5))
            if round % 2:
                database.kill()
            server.kill()
            for writer in writers:
                writer.join()
            if round % 2:
                database.start()
            server = Server(arguments.program, database)
            slowest = max(slowest, server.ready_s)
            repeated += sum(writer.repeat(server.address) for writer in writers)
            known = frozen(writers)
            found, before = compare(known, before, database.rows)
            found += [] if database.is_whole() else ["the database is damaged"]
            total, wrong = total + known.acknowledged, wrong + found
            report(round, known, found)
        server.kill()
        database.stop()
    print(f"{repeated} calls without an answer were repeated under their idempotency keys")
    verdict(f"{database.name}: {arguments.rounds} kills, {total} acknowledged, ready after {slowest:.2f} s at most", wrong)


def power(arguments):
    """What a disk holds at a moment at which nothing was written to it that nobody asked to be written."""
    total, wrong = 0, []
    with tempfile.TemporaryDirectory() as folder, held_back():
        # PostgreSQL is somebody else.
        Path(folder).chmod(0o755)
        for round in range(arguments.rounds):
            with disk(Path(folder), "disk") as (image, mounted):
                database = arguments.database(mounted, arguments.weak)
                database.start()
                server = Server(arguments.program, database)
                read_bootstrap(database)
                # Everything before the load is there for certain.
                os.sync()
                writers = server.writers(round, arguments.seed)
                for writer in writers:
                    writer.start()
                time.sleep(random.Random(f"{arguments.seed} {round}").uniform(0.5, 2.5))
                every([server.process.pid, *database.processes()], signal.SIGSTOP)
                # What was answered is read; after this the ledger stands.
                time.sleep(LEDGER_PATIENCE_S)
                known = frozen(writers)
                copy = Path(folder) / "copy"
                subprocess.run(["cp", "--sparse=always", image, copy], check=True)
                every([server.process.pid, *database.processes()], signal.SIGCONT)
                database.kill()
                server.kill()
            with attached(copy, Path(folder) / "found") as mounted:
                database = database.moved_to(mounted)
                database.start()
                server = Server(arguments.program, database)
                found, _ = compare(known, {}, database.rows)
                found += [] if database.is_whole() else ["the database is damaged"]
                server.kill()
                database.stop()
            total, wrong = total + known.acknowledged, wrong + found
            report(round, known, found)
    verdict(f"{database.name}: {arguments.rounds} power losses, {total} acknowledged", wrong)


class held_back:
    """The kernel writes only what it is asked to; afterwards as before. This is a setting of the whole machine."""

    settings = {"dirty_writeback_centisecs": "0", "dirty_expire_centisecs": "360000"}

    def __enter__(self):
        self.before = {name: Path(f"/proc/sys/vm/{name}").read_text() for name in self.settings}
        for name, value in self.settings.items():
            Path(f"/proc/sys/vm/{name}").write_text(value)

    def __exit__(self, *_):
        for name, value in self.before.items():
            Path(f"/proc/sys/vm/{name}").write_text(value)


class disk:
    """A new file system in a file, whose journal is not written before somebody syncs."""

    def __init__(self, folder, name):
        self.image, self.mounted = folder / f"{name}.img", folder / name

    def __enter__(self):
        with open(self.image, "wb") as image:
            image.truncate(512 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.image], check=True)
        self.attached = attached(self.image, self.mounted)
        return self.image, self.attached.__enter__()

    def __exit__(self, *why):
        self.attached.__exit__(*why)
        self.image.unlink()


class attached:
    """An image, mounted; its journal is replayed as after a crash."""

    def __init__(self, image, folder):
        self.image, self.folder = image, folder

    def __enter__(self):
        self.folder.mkdir(exist_ok=True)
        subprocess.run(["mount", "-o", "loop,commit=3600", self.image, self.folder], check=True)
        return self.folder

    def __exit__(self, *_):
        for _ in range(50):
            if subprocess.run(["umount", self.folder], stderr=subprocess.DEVNULL).returncode == 0:
                return
            time.sleep(0.1)
        sys.exit(f"{self.folder} stays mounted")


def report(round, known, found):
    print(f"round {round}: {known.acknowledged} acknowledged, {len(known.pending)} without an answer, {len(found)} wrong")
    for sentence in found[:3]:
        print(f"  {sentence}")
    sys.stdout.flush()


def verdict(summary, wrong):
    print(f"{summary}: {len(wrong)} wrong")
    sys.exit(1 if wrong else 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fault", choices=["kill", "power"])
    parser.add_argument("database", choices=["sqlite", "postgres"])
    parser.add_argument("--program", default="target/debug/checkmate", help="the server")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None, help="printed at the start; gives the same writers")
    parser.add_argument("--weak", action="store_true", help="PostgreSQL with synchronous_commit=off: must show losses")
    arguments = parser.parse_args()
    arguments.database = {"sqlite": Sqlite, "postgres": Postgres}[arguments.database]
    arguments.program = shutil.which(arguments.program) or sys.exit(f"there is no {arguments.program}: cargo build")
    arguments.seed = arguments.seed or random.randrange(1_000_000)
    print(f"seed {arguments.seed}")
    {"kill": kill, "power": power}[arguments.fault](arguments)


main()
