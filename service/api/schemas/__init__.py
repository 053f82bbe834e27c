"""The shapes of answers.

Who uses it: the endpoints, and FastAPI for the OpenAPI document. Answers are written as they are; that they have these
shapes is pinned by tests.
"""

from service.api.schemas.atomicity import Atomicity
from service.api.schemas.events import EventPage
from service.api.schemas.experiments import (
    ExperimentItem,
    ExperimentList,
    ExperimentView,
    experiment_head,
    experiment_view,
)
from service.api.schemas.jobs import JobList, JobListItem, JobView, job_list_item, job_view
from service.api.schemas.problems import Problem
from service.api.schemas.scenarios import ScenarioList, ScenarioView, measure_view
from service.api.schemas.system import Capacity, Health, InterpreterList

__all__ = [
    "Atomicity",
    "Capacity",
    "EventPage",
    "ExperimentItem",
    "ExperimentList",
    "ExperimentView",
    "Health",
    "InterpreterList",
    "JobList",
    "JobListItem",
    "JobView",
    "Problem",
    "ScenarioList",
    "ScenarioView",
    "experiment_head",
    "experiment_view",
    "job_list_item",
    "job_view",
    "measure_view",
]
