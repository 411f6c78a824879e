"""Which tests are run on the mutants of a module: its own, and those of MORE."""

from __future__ import annotations

from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
PACKAGES = ("core", "batch")

_PIPELINE = "tests/batch/test_pipeline.py::test_"
END_TO_END = (f"{_PIPELINE}every_batch_is_as_the_model_says", f"{_PIPELINE}batching_does_not_change_the_result")
_FORGET = "tests/operate/test_forget_histories.py::test_"
PARSE = ("tests/core/parse/test_parse.py", "tests/core/parse/test_mapped.py")
MORE: dict[str, tuple[str, ...]] = {
    "batch/ageing.py": ("tests/test_ages.py",),
    "batch/archive.py": ("tests/batch/test_taking.py", "tests/batch/test_unpacking.py"),
    "batch/catch_up.py": (f"{_FORGET}orders_before_since_are_erased_and_refused_too", "tests/test_since.py"),
    "batch/commit.py": (*END_TO_END, "tests/batch/test_dimensions.py", "tests/test_restatements.py"),
    "batch/decide.py": (*END_TO_END, "tests/batch/test_deletions.py"),
    "batch/dimensions.py": END_TO_END,
    "batch/discarding.py": ("tests/operate/test_discard.py",),
    "batch/duplicates.py": ("tests/batch/test_pipeline.py", "tests/batch/test_taking.py", "tests/batch/test_reread.py"),
    "batch/engine.py": END_TO_END,
    "batch/keeping.py": ("tests/batch/test_ageing.py", "tests/test_config.py", "tests/test_reloading.py"),
    "batch/outcome.py": (*END_TO_END, "tests/observe/test_metrics.py"),
    "batch/pipeline.py": ("tests/batch/test_reread.py", "tests/batch/test_taking.py", "tests/batch/test_mending.py"),
    "batch/prepare.py": (*END_TO_END, "tests/operate/test_plan.py"),
    "batch/publish.py": (*END_TO_END, "tests/operate/test_quarantine.py"),
    "batch/published.py": (*END_TO_END, "tests/batch/test_mending.py"),
    "batch/reading.py": ("tests/batch/test_unpacking.py", *END_TO_END),
    "batch/recovery.py": ("tests/batch/test_taking.py", "tests/test_service.py"),
    "batch/repair.py": ("tests/batch/test_mending.py",),
    "batch/rewriting.py": END_TO_END,
    "batch/withdraw.py": ("tests/operate/test_undo.py", "tests/test_undo_ages.py"),
    "core/columns.py": ("tests/core/test_parquet.py", "tests/test_columns.py"),
    "core/drift.py": ("tests/core/parse/test_shapes.py", "tests/test_drift.py"),
    "core/entries.py": (*END_TO_END, "tests/operate/test_rebuild.py"),
    "core/errors.py": ("tests/operate/test_quarantine.py",),
    "core/mapping.py": ("tests/sources/test_mapping_settings.py", *PARSE),
    "core/merge/facts.py": (*END_TO_END, "tests/batch/test_dimensions.py"),
    "core/merge/keys.py": END_TO_END,
    "core/merge/partition.py": END_TO_END,
    "core/model.py": ("tests/core/parse/test_refusals.py", "tests/core/parse/test_csv.py", *PARSE, *END_TO_END),
    "core/native/bindings.py": (*PARSE, "tests/core/parse/test_shapes.py"),
    "core/native/tables.py": ("tests/core/native/test_bindings.py", *PARSE, *END_TO_END),
    "core/parse/advice.py": ("tests/core/parse/test_csv.py",),
    "core/parse/blocking.py": ("tests/operate/test_forget.py",),
    "core/parse/csv.py": (
        "tests/core/parse/test_redaction.py",
        "tests/batch/test_dimensions.py",
        "tests/test_input_docs.py",
    ),
    "core/parse/csv_text.py": (
        "tests/core/parse/test_csv.py",
        "tests/core/parse/test_redaction.py",
        "tests/test_input_docs.py",
    ),
    "core/parse/damage.py": ("tests/core/parse/test_refusals.py",),
    "core/parse/discards.py": (*PARSE, "tests/batch/test_reading.py"),
    "core/parse/documents.py": (
        "tests/core/parse/test_refusals.py",
        "tests/core/parse/test_hidden.py",
        *PARSE,
        "tests/batch/test_reading.py",
    ),
    "core/parse/envelopes.py": (
        "tests/core/parse/test_documents.py",
        "tests/core/parse/test_refusals.py",
        "tests/core/parse/test_hidden.py",
        "tests/test_input_docs.py",
    ),
    "core/parse/explain_csv.py": ("tests/core/parse/test_explain.py",),
    "core/parse/mapped.py": ("tests/core/parse/test_explain.py",),
    "core/parse/naming.py": ("tests/core/parse/test_redaction.py", "tests/operate/test_forget.py"),
    "core/parse/nested.py": (
        "tests/core/parse/test_documents.py",
        "tests/core/parse/test_hidden.py",
        "tests/core/parse/test_refusals.py",
        "tests/test_input_docs.py",
    ),
    "core/parse/pages.py": (
        "tests/core/parse/test_refusals.py",
        "tests/core/parse/test_hidden.py",
        "tests/test_input_docs.py",
    ),
    "core/parse/parse.py": (
        "tests/core/parse/test_explain.py",
        "tests/core/parse/test_refusals.py",
        "tests/core/parse/test_mapped.py",
        "tests/batch/test_reading.py",
    ),
    "core/parse/redaction.py": ("tests/operate/test_forget.py",),
    "core/parse/reference.py": ("tests/core/parse/test_documents.py", "tests/core/parse/test_damage.py", *PARSE),
    "core/parse/refusals.py": ("tests/core/parse/test_documents.py", "tests/test_input_docs.py"),
    "core/parse/texts.py": (
        "tests/core/parse/test_documents.py",
        "tests/core/parse/test_hidden.py",
        "tests/core/parse/test_redaction.py",
    ),
    "core/parse/unread.py": ("tests/core/test_drift.py", "tests/core/parse/test_shapes.py"),
    "core/parse/values.py": (*PARSE,),
    "core/progress.py": ("tests/operate/test_backup.py",),
    "core/retry.py": ("tests/batch/test_retries.py", "tests/batch/test_taking.py"),
    "core/versions.py": END_TO_END,
}


def modules() -> list[str]:
    """All of core/ and batch/ that have code, as paths below daemon/."""
    found = (path for package in PACKAGES for path in sorted((REPO / "daemon" / package).rglob("*.py")))
    return [path.relative_to(REPO / "daemon").as_posix() for path in found if path.name != "__init__.py"]


def suite_of(module: str) -> tuple[str, ...]:
    """The tests of a module, the quickest first."""
    path = Path(module)
    own = Path("tests") / path.parent / f"test_{path.name}"
    return (*((own.as_posix(),) if (REPO / own).is_file() else ()), *MORE.get(module, ()))
