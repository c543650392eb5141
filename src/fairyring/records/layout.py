"""The names of all files in a run's folder. No other file of the code spells them.

run.json              what ran: versions, seed, machine, status, what was assumed
plan.json             the plan as a document, and what follows from it
model.msgpack         the forward pass of its model as a program, without parameters
population.json       the data, in numbers
metrics.jsonl         a record for each round, a line each
clients.safetensors   what is known of each client at the end
checkpoints/          round-000100.safetensors: the whole resumable state; the last two are kept
models/               round-000100.safetensors: the models that were to be kept
init.safetensors      the model that it was given to start from
clients/              the clients' own states, where an algorithm has them
secure_sum/           under the masked protocol: a transcript for each round, the last two sums, and what the
                      devices signed: head.msgpack after the last round, seal.msgpack at the end
exhibit.safetensors   one client's vector as the server received it
ledger.sqlite         what a private run has spent, with ledger.head beside it
noise.key             the secret that its noise is made from, until it is over
audit.json            what an audit found, with its pictures' numbers in audit.safetensors
source.json           the file and the settings it was started with
report.html           the report
lock                  who is writing the folder now, if anybody is
"""

import re

RUN, PLAN, MODEL, POPULATION = "run.json", "plan.json", "model.msgpack", "population.json"
METRICS, CLIENTS = "metrics.jsonl", "clients.safetensors"
CHECKPOINTS, CHECKPOINT = "checkpoints", "round-{:06d}.safetensors"
INIT = "init.safetensors"
MODELS = "models"  # named as checkpoints are
IS_CHECKPOINT = re.compile(r"round-(\d{6,})\.safetensors")
STATES, STATE_TABLE = "clients", "states.bin"
TRANSCRIPTS = "secure_sum"
TRANSCRIPT, SUM = TRANSCRIPTS + "/round-{:06d}.msgpack", TRANSCRIPTS + "/round-{:06d}.sum"
SIGNED, SEAL = TRANSCRIPTS + "/head.msgpack", TRANSCRIPTS + "/seal.msgpack"
EXHIBIT = "exhibit.safetensors"
LEDGER, LEDGER_HEAD, SECRET = "ledger.sqlite", "ledger.head", "noise.key"
LEDGER_FILES = LEDGER, f"{LEDGER}-shm", f"{LEDGER}-wal", LEDGER_HEAD
AUDIT, SCORES = "audit.json", "audit.safetensors"
SOURCE, REPORT, LOCK = "source.json", "report.html", "lock"

# Everything that may be in the folder of a run.
OF_A_RUN = frozenset(
    {
        RUN,
        PLAN,
        MODEL,
        INIT,
        POPULATION,
        METRICS,
        CLIENTS,
        CHECKPOINTS,
        MODELS,
        STATES,
        TRANSCRIPTS,
        EXHIBIT,
        *LEDGER_FILES,
    }
    | {SECRET, AUDIT, SCORES, SOURCE, REPORT, LOCK}
)
