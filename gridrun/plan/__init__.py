"""What a launch has to do, in which order, and how long it will take.

`trials` collects the trials that grids request and says which have ended, `costs` estimates each,
`packing` decides how many share a GPU, `schedule` puts them in order, and `forecast` combines all that.
This room reads a store and never writes one. It starts nothing and knows no executor.
"""

from gridrun.plan.forecast import Forecast, forecast_from
from gridrun.plan.trials import Change, Plan, changed, make_plan, requested_name

__all__ = ["Change", "Forecast", "Plan", "changed", "forecast_from", "make_plan", "requested_name"]
