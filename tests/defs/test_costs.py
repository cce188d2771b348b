"""The cost report as a job."""

from __future__ import annotations

import dagster as dg

from catalog_pipeline.definitions import defs
from tests.defs.scratch_line import Line
from tests.workflows.upkeep.data_home import fill_home


def test_the_job_writes_the_report_and_its_figures_plot(
    line: Line, instance: dg.DagsterInstance
) -> None:
    fill_home(line.home.objects)
    result = defs.resolve_job_def("write_cost_report").execute_in_process(instance=instance)
    assert result.success
    (event,) = [e for e in result.all_node_events if e.event_type_value == "STEP_OUTPUT"]
    told = event.step_output_data.metadata
    assert told["published"].value == 5
    assert told["learning_seconds"].value == 270.0
    assert told["cost"].value > 0
    assert (line.settings.home / "reports" / "cost" / "nights.parquet").is_file()
    assert "no meter was read" in str(told["missing"].value)


def test_an_empty_home_fails_in_one_line(line: Line, instance: dg.DagsterInstance) -> None:
    result = defs.resolve_job_def("write_cost_report").execute_in_process(
        instance=instance, raise_on_error=False
    )
    assert not result.success
    (failure,) = [event for event in result.all_node_events if event.is_step_failure]
    assert "run `catalog-pipeline learn` first" in str(failure.step_failure_data.error)
