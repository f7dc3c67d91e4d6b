"""Small faults in our own code, and the tests that must notice each.

A fault is one replacement in one file below src/vosrepro; its text must occur there exactly once.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: what is wrong, as a phrase.
        file: below src/vosrepro.
        old: what stands there.
        new: what the fault makes of it.
        tests: what pytest is asked to run, below tests/; at least one of them must fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def _fault(name: str, file: str, old: str, new: str, *tests: str) -> Fault:
    return Fault(name, file, old, new, tests)


_SELECT = "inference/test_select.py::"
_STATISTICS = "scoring/test_statistics.py::"
_DEVIATIONS = "reporting/test_deviations.py::"
_LOADING = "weights/test_strict_loading.py::"
_DIGESTS = "study/test_digests.py::"

FAULTS = (
    # ------------------------------------------------------------------------------ choice of a checkpoint
    _fault(
        "another checkpoint than the best is marked",
        "inference/select.py",
        "str(index == best).lower()",
        "str(index == len(rows) - 1).lower()",
        _SELECT + "test_the_best_checkpoint_is_recorded_marked_and_copied",
    ),
    _fault(
        "the last checkpoint is copied",
        "inference/select.py",
        "_write(plan, run, rows, best, candidates[best][1]",
        "_write(plan, run, rows, best, candidates[-1][1]",
        _SELECT + "test_the_best_checkpoint_is_recorded_marked_and_copied",
    ),
    _fault(
        "the worst checkpoint is chosen",
        "inference/select.py",
        "return max(range(len(rows)), key",
        "return min(range(len(rows)), key",
        _SELECT + "test_the_best_checkpoint_is_recorded_marked_and_copied",
    ),
    _fault(
        "the earlier one of equally good checkpoints is chosen",
        "inference/select.py",
        "rows[i].get(metric, 0.0), i)",
        "rows[i].get(metric, 0.0), -i)",
        _SELECT + "test_of_equally_good_checkpoints_the_later_one_is_taken",
    ),
    _fault(
        "every checkpoint is judged by the weights of the first",
        "inference/select.py",
        "_evaluate(run, path, videos, device, partial(score, protocol=selection.scoring))",
        "_evaluate(run, candidates[0][1], videos, device, partial(score, protocol=selection.scoring))",
        _SELECT + "test_recorded_values_are_those_of_the_checkpoint_at_that_step",
    ),
    _fault(
        "held-out sequences that the set lacks are passed over",
        "inference/select.py",
        "if missing:",
        "if missing and not videos:",
        _SELECT + "test_a_held_out_sequence_that_the_set_lacks_is_named",
    ),
    # ------------------------------------------------------------------------------------------- verdicts
    _fault(
        "runs within the margin are below it",
        "scoring/statistics.py",
        "elif high < -margin:",
        "elif high < margin:",
        _STATISTICS + "test_a_verdict_changes_at_its_borders_and_nowhere_else",
    ),
    _fault(
        "runs that reach into the margin exceed it",
        "scoring/statistics.py",
        "elif low > margin:",
        "elif high > margin:",
        _STATISTICS + "test_a_verdict_changes_at_its_borders_and_nowhere_else",
    ),
    _fault(
        "half an interval within the margin is enough",
        "scoring/statistics.py",
        "elif -margin <= low and high <= margin:",
        "elif -margin <= low:",
        _STATISTICS + "test_a_verdict_changes_at_its_borders_and_nowhere_else",
    ),
    _fault(
        "two runs carry a verdict",
        "scoring/statistics.py",
        "MIN_RUNS = 3 ",
        "MIN_RUNS = 2 ",
        _STATISTICS + "test_a_verdict_takes_three_runs",
    ),
    _fault(
        "the adjustment for many rows turns at fifteen percent",
        "reporting/evidence/verdicts.py",
        "p_value > _ALPHA",
        "p_value > 3 * _ALPHA",
        "reporting/test_report_table.py::test_the_adjustment_for_many_rows_turns_at_five_percent",
    ),
    _fault(
        "rows without a p-value count as tested",
        "reporting/evidence/verdicts.py",
        "tested = [v for v in verdicts if v.p_below is not None]",
        "tested = list(verdicts)",
        "reporting/test_report_table.py::"
        "test_rows_without_a_p_value_are_not_counted_as_tested_and_others_keep_their_verdict",
    ),
    _fault(
        "our reading of private rules forbids nothing",
        "reporting/evidence/deviations.py",
        'elif benchmark.scoring == "ytvos-local":',
        'elif benchmark.scoring == "":',
        _DEVIATIONS + "test_only_rules_that_we_had_to_guess_block_a_benchmark",
    ),
    _fault(
        "generated data forbid nothing",
        "reporting/evidence/deviations.py",
        "if study.data.generated:",
        "if False:",
        _DEVIATIONS + "test_generated_data_block_whatever_the_size",
    ),
    _fault(
        "a check is passed by a point less than it asks for",
        "reporting/evidence/checks.py",
        "return Check(group, title, gap >= least, measured",
        "return Check(group, title, gap >= least - 1, measured",
        "reporting/test_report_table.py::test_a_check_turns_at_its_threshold",
    ),
    # ---------------------------------------------------------------------------------------------- scores
    _fault(
        "two empty masks disagree",
        "scoring/measures.py",
        "np.where(union == 0, 1.0, inter",
        "np.where(union == 0, 0.0, inter",
        "scoring/test_measures.py::test_empty_masks_agree_perfectly",
    ),
    _fault(
        "recall counts one half",
        "scoring/measures.py",
        "np.mean(values > 0.5)",
        "np.mean(values >= 0.5)",
        "scoring/test_measures.py::test_recall_is_strictly_above_one_half",
    ),
    # ---------------------------------------------------------------------------------------- plan and costs
    _fault(
        "jobs with the shortest rest of their chain start first",
        "costs/schedule.py",
        "key=lambda task: -rest[task.name]",
        "key=lambda task: rest[task.name]",
        "costs/test_schedule.py::test_the_job_with_the_longest_rest_of_its_chain_starts_first",
    ),
    _fault(
        "the chain is followed along its shortest branch",
        "costs/schedule.py",
        "chain.append(max(found,",
        "chain.append(min(found,",
        "costs/test_schedule.py::test_the_longest_chain_bounds_the_wall_time",
    ),
    _fault(
        "a stage starts from the first stage of its recipe",
        "study/plan.py",
        "parent = nodes[-1] if nodes else None",
        "parent = nodes[0] if nodes else None",
        "study/test_plan.py::test_each_stage_starts_from_the_one_before",
    ),
    _fault(
        "a resumed journal keeps later metrics",
        "tracking/journal.py",
        'event.get("step", 0) <= step',
        'event.get("step", 0) >= 0',
        "tracking/test_journal.py::test_resuming_cuts_later_metrics_the_end_and_a_torn_line",
    ),
    # --------------------------------------------------------------------------------- weights and inference
    _fault(
        "missing weights stay random",
        "methods/common/checkpoints.py",
        "missing = [k for k in expected if k not in state and not k.endswith(_COUNTER)]",
        "missing: list[str] = []",
        _LOADING + "test_what_does_not_fit_is_named_and_nothing_is_loaded",
    ),
    _fault(
        "unknown weights are dropped",
        "methods/common/checkpoints.py",
        "unknown = [k for k in state if k not in expected]",
        "unknown: list[str] = []",
        _LOADING + "test_what_does_not_fit_is_named_and_nothing_is_loaded",
    ),
    _fault(
        "the last frames of a video wait for ever",
        "inference/runner.py",
        "if len(pending) == block or index == stop - 1:",
        "if len(pending) == block:",
        "inference/test_runner.py::test_labels_that_wait_for_a_block_all_come_out_in_order",
    ),
    _fault(
        "a late object is numbered from the first label again",
        "inference/runner.py",
        "table[identity] = len(self.ids)",
        "table[identity] = 1 + present.index(identity)",
        "inference/test_runner.py::test_a_late_object_is_handed_over_on_its_frame_alone",
    ),
    # --------------------------------------------------------------------------------------------- methods
    _fault(
        "the background is where no object is likely, not where all are absent",
        "methods/common/aggregation.py",
        "torch.prod(1 - objects, dim=dim, keepdim=True)",
        "torch.amin(1 - objects, dim=dim, keepdim=True)",
        "methods/test_common.py::test_aggregation_is_the_share_of_the_odds",
    ),
    _fault(
        "the annotated frame does not count double",
        "methods/frtm/memory.py",
        "weights[0] = 2",
        "weights[0] = 1",
        "methods/test_frtm.py::test_the_annotated_frame_counts_double",
    ),
    _fault(
        "samples grow with the wrong rule",
        "methods/frtm/memory.py",
        'factor = 1 / (1 - rate) if growth == "divide" else 1 + rate',
        'factor = 1 + rate if growth == "divide" else 1 / (1 - rate)',
        "methods/test_frtm.py::test_the_annotated_frame_is_evicted_when_upstream_does",
    ),
    _fault(
        "the memory grows one frame late",
        "methods/stm/segmenter.py",
        "permanent = late or self._index - self._last_permanent >= self._every",
        "permanent = late or self._index - self._last_permanent > self._every",
        "methods/test_stm_segmenter.py::test_first_every_nth_and_last_frame_are_remembered_and_the_very_last_is_not",
    ),
    _fault(
        "held-out sequences are trained on",
        "training/data/clips.py",
        "training_videos(set_name, data, exclude=held_out)",
        "training_videos(set_name, data)",
        "training/test_clips.py::test_held_out_sequences_and_short_videos_are_left_out_and_sources_repeat",
    ),
    # -------------------------------------------------------------------------------------------- identity
    _fault(
        "masks of other weights are kept",
        "study/digests.py",
        "return value_digest([asked_entry(entry), weights, data])",
        "return value_digest([asked_entry(entry), data])",
        _DIGESTS + "test_masks_depend_on_the_weights_and_the_data",
    ),
    _fault(
        "masks of other data are kept",
        "study/digests.py",
        "return value_digest([asked_entry(entry), weights, data])",
        "return value_digest([asked_entry(entry), weights])",
        _DIGESTS + "test_masks_depend_on_the_weights_and_the_data",
    ),
    _fault(
        "masks of frames from another folder are kept",
        "study/digests.py",
        "exclude=_JUDGING), entry.input_short_side_px]",
        'exclude=_JUDGING | {"frame_source"}), entry.input_short_side_px]',
        _DIGESTS + "test_presentation_is_part_of_no_mask_no_selection_no_weights_and_no_score",
    ),
    _fault(
        "another docstring makes everything again",
        "study/code.py",
        'if field == "body" and value and _is_docstring(value[0]):',
        "if False:",
        _DIGESTS + "test_comments_docstrings_and_layout_change_no_digest",
    ),
)
