"""What `--help` says below the arguments of a command: examples, and where to go next. A test runs every example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

_WIDEST = 60  # of the column of examples; a longer one has its comment on the line below


@dataclass(frozen=True)
class Guide:
    """`examples`: command lines, and what each does. `next`: a sentence. `page`: of the documentation, by its name: what
    says more; "" for none."""

    examples: Sequence[tuple[str, str]]
    next: str
    page: str = ""

    @property
    def after(self) -> str:
        """Where to go next, in a line."""
        return f"Next: {self.next}" + (f" More: `strandline docs {self.page}`" if self.page else "")


def epilog(guide: Guide) -> str:
    """The end of the help of a command. Indented lines are kept as they are."""
    width = max(len(line) for line, _ in guide.examples if len(line) <= _WIDEST or len(guide.examples) == 1)
    lines = chain.from_iterable(
        [f"  {line:{width}}  {what}"] if len(line) <= width else [f"  {line}", f"  {'':{width}}  {what}"]
        for line, what in guide.examples
    )
    return "\n".join(["examples:", *lines]) + f"\n\n{guide.after}"


MAIN = Guide(
    [
        ("strandline init", "write config.toml, and make inbox/ and output/"),
        ("strandline --once", "apply what is in the inbox, then exit"),
        ("strandline", "watch the inbox until Ctrl-C, with a page at http://127.0.0.1:10464/"),
        ('strandline sql "FROM fact_order LIMIT 5"', "look at the result"),
    ],
    "`strandline COMMAND --help` has examples of each command.",
    "QUICKSTART",
)
GUIDES: Mapping[str, Guide] = {
    "status": Guide(
        [("strandline status", "the state, for people"), ("strandline status --json", "the same, for programs")],
        "`strandline history` lists every drop; `strandline check` tests the configuration.",
        "OPERATING",
    ),
    "usage": Guide(
        [("strandline usage", "what each part of the output takes, and what goes next by age")],
        "[raw] keep and others limit how long copies are kept.",
        "AGES",
    ),
    "history": Guide(
        [
            ("strandline history", "all drops, the newest last"),
            ("strandline history --since 2026-03-01", "those received since that day"),
        ],
        "`strandline retry` or `strandline discard` what is quarantined, `strandline undo` what should not have been applied.",
        "OPERATING",
    ),
    "trace": Guide(
        [("strandline trace o_1", "every version of the order o_1, and how its amount came about")],
        "`strandline undo DROP` withdraws the drop that brought a wrong version.",
        "EXACTNESS",
    ),
    "plan": Guide(
        [
            ("strandline plan inbox/orders.json", "what the file would become"),
            ("strandline plan inbox/orders.json --source default", "the same, read as a source of your choice"),
        ],
        "put the file into the inbox; `strandline --once` applies it.",
        "sources",
    ),
    "verify": Guide(
        [
            ("strandline verify", "compare everything, down to a rebuild from raw"),
            ("strandline verify --destinations", "also what warehouses and buckets have"),
        ],
        "each difference names the command that mends it.",
        "RELIABILITY",
    ),
    "downstream": Guide(
        [("strandline downstream", "models, checks and destinations, and what is not up to date")],
        "`strandline refresh NAME` makes one again.",
        "MODELS",
    ),
    "sql": Guide(
        [
            ('strandline sql "SELECT date, sum(amount) FROM fact_order GROUP BY ALL ORDER BY ALL"', "amounts by day"),
            ('strandline sql --csv "FROM discards"', "what was discarded, as CSV"),
            ('strandline sql "FROM fact_order" --output orders.parquet', "into a file"),
            ('strandline sql "SHOW TABLES"', "which tables there are"),
        ],
        "a file models/NAME.sql keeps the result of a query up to date.",
        "READING",
    ),
    "schema": Guide(
        [("strandline schema --dialect postgres", "CREATE TABLE for PostgreSQL")],
        "run it in the warehouse; `strandline manifest`, or a section [load.NAME], fills its tables.",
        "WAREHOUSE",
    ),
    "manifest": Guide(
        [
            ("strandline manifest fact_order s3://bucket/shop", "all files of fact_order, for COPY"),
            ("strandline manifest fact_order s3://bucket/shop 2026-03-02", "those of one date"),
        ],
        "COPY reads it with MANIFEST.",
        "WAREHOUSE",
    ),
    "retry": Guide(
        [
            ("strandline retry truncated.json", "one drop, by its name"),
            ("strandline retry", "all quarantined drops, once their cause is mended"),
            ("strandline retry 17", "one by its number: an applied drop is read again"),
        ],
        "the daemon takes them, or `strandline --once`; `strandline history` says what became of them.",
        "OPERATING",
    ),
    "discard": Guide(
        [('strandline discard login.json --reason "no orders in it"', "remove it from quarantine")],
        "`strandline history` keeps who did that, when and why.",
        "OPERATING",
    ),
    "undo": Guide(
        [
            ("strandline undo prices.json --dry-run", "what would change"),
            ('strandline undo prices.json --reason "wrong prices"', "withdraw the drop"),
            ("strandline undo 17 --revert", "apply drop 17 again, as if it had stayed"),
        ],
        "`strandline history` shows it; models and destinations follow.",
        "UNDO",
    ),
    "pull": Guide(
        [
            ("strandline pull berlin --dry-run", "read the first page, and show what it would become"),
            ("strandline pull berlin", "read what is new, and apply it"),
        ],
        "`strandline` (or `strandline --once`) reads all APIs without being asked.",
        "PULL",
    ),
    "refresh": Guide(
        [
            ("strandline refresh daily_sales", "all of it"),
            ("strandline refresh daily_sales 2026-03-02", "one date"),
        ],
        "the daemon makes it, or `strandline --once`; `strandline downstream` shows how far it is.",
        "MODELS",
    ),
    "rebuild": Guide(
        [
            ("strandline rebuild 2026-03-02", "one date"),
            ("strandline rebuild", "everything, and the ledger; no daemon may be running"),
        ],
        "`strandline verify` compares the result.",
        "RELIABILITY",
    ),
    "forget": Guide(
        [
            ("strandline forget --user u_1 --dry-run", "what would be erased"),
            ("strandline forget --user u_1", "erase it; no daemon may be running"),
            ("strandline forget --order o_2 --block", "also refuse what comes later"),
            ("strandline forget --order o_2 --unblock", "take what comes later again"),
        ],
        "remove backups from before, which still have what was erased.",
        "ERASURE",
    ),
    "init": Guide(
        [
            ("strandline init --config shop.toml", "a configuration under another name"),
            ("strandline init --config shopify.toml --preset shopify", "for the orders of a shop"),
        ],
        "`strandline check`, then put a file into the inbox.",
        "QUICKSTART",
    ),
    "check": Guide(
        [("strandline check", "test everything that a run needs")],
        "what is wrong says how to mend it; then `strandline`, or `strandline --once`.",
        "OPERATING",
    ),
    "pause": Guide(
        [('strandline pause --reason "moving the disk"', "take no more drops")],
        "`strandline resume`.",
        "OPERATING",
    ),
    "resume": Guide(
        [("strandline resume", "take drops again")],
        "`strandline status` shows what waits.",
        "OPERATING",
    ),
    "backup": Guide(
        [("strandline backup ../backups/monday", "a copy, as it is at one moment")],
        "`strandline restore` puts it back; copy it to another machine.",
        "BACKUP",
    ),
    "restore": Guide(
        [("strandline restore ../backups/monday", "into the output folder, which must be empty")],
        "`strandline verify`, then start the daemon.",
        "BACKUP",
    ),
    "docs": Guide(
        [
            ("strandline docs", "which pages there are"),
            ("strandline docs RUNBOOK", "one page"),
            ("strandline docs RUNBOOK#StrandlinePaused", "one section of it"),
        ],
        "the daemon has the same at /docs/ of its page.",
        "COMMAND-LINE",
    ),
    "completion": Guide(
        [
            ("strandline completion bash", 'in ~/.bashrc: eval "$(strandline completion bash)"'),
            ("strandline completion zsh", 'in ~/.zshrc, below compinit: eval "$(strandline completion zsh)"'),
            ("strandline completion fish", "in ~/.config/fish/config.fish: strandline completion fish | source"),
        ],
        "open a new shell, and press Tab behind `strandline`.",
        "COMMAND-LINE",
    ),
}
