"""The clients' own tests, as they are, against a cluster of two nodes instead of one server."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.clients.houses import Served
from tests.clients.test_huggingface_served import (  # noqa: F401
    photo,
    test_a_detector_answers_what_the_reference_finds,
    test_item_03_the_javascript_client_gets_what_curl_gets,
    test_item_03_the_python_client_gets_what_curl_gets,
)
from tests.clients.test_ultralytics_clients import (  # noqa: F401
    client,
    requests_python,
    test_a_video_streams_an_entry_per_frame,
    test_bad_pictures_are_refused_with_a_reason,
    test_hub_sdk_0_0_25_predicts,
    test_the_programs_of_the_first_document,
    test_the_programs_of_the_second_document,
    test_ultralytics_platform_0_1_99_predicts_and_lists,
)
from tests.cluster.clusters import Cluster

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def house(cluster: Cluster, data: Path) -> Served:
    """The cluster in the words of the clients' tests."""
    return Served(cluster.url, cluster.log)
