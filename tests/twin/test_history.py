from __future__ import annotations

from inferscale_operator.twin.history import Prediction, Predictions


def test_predictions_come_back_as_they_were_made_the_unknown_ones_too():
    kept = Predictions()
    made = [Prediction(30.0, 12.5, None), Prediction(60.0, None, None), Prediction(90.0, 13.25, 480.0)]
    for each in made:
        kept.add(each.at_s, each.itl, each.ttft)
    assert list(kept) == made
    assert list(kept) == made
