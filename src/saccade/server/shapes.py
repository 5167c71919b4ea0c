"""What answers look like in JSON, for the OpenAPI document.

Answers are rendered from plain dictionaries, row by row; these types only describe them. A test compares the two.
Only of :class:`UsedOnDay` answers are made, for a year of thousands of keys is a million of these.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType, field

Score = Annotated[float, Meta(description="From 0 to 1.")]
Png = Annotated[str, Meta(description="A grey PNG of the picture's size, in base64.")]
Pair = Annotated[list[int], Meta(min_length=2, max_length=2, description="Height and width in pixels.")]
Corners = Annotated[list[float], Meta(min_length=8, max_length=8, description="x, y of four corners, 0 to 1.")]


class Label(Struct):
    """A class of the whole picture."""

    label: str
    score: Score


class WholeBox(Struct):
    """Whole pixels of the upright picture."""

    xmin: int
    ymin: int
    xmax: int
    ymax: int


class Point(Struct):
    """Pixels; ``score`` tells how surely a keypoint is seen."""

    x: float
    y: float
    score: float | UnsetType = UNSET


class Detection(Struct):
    """An object; poses have keypoints, oriented boxes their four corners."""

    label: str
    score: Score
    box: WholeBox
    keypoints: list[Point] | UnsetType = UNSET
    corners: list[Point] | UnsetType = UNSET


class Segment(Struct):
    """A segment: white where it is, black elsewhere."""

    label: str
    score: Score
    mask: Png


class DepthPicture(Struct):
    """Depth, stretched over black to white."""

    depth: Png


class Predictions(Struct):
    """The answers to what was sent as ``instances``, one for each."""

    predictions: list[Any]


class Refusal(Struct):
    """What is wrong and what to do; ``estimated_time`` in seconds while a model loads."""

    error: str
    estimated_time: float | UnsetType = UNSET


class ModelHealth(Struct):
    """Whether a model answers."""

    status: str


class ModelInfo(Struct):
    """A model of the Hub's API."""

    model_id: str
    model_sha: str | None
    model_pipeline_tag: str
    model_device_type: str
    state: str
    labels: int
    license: str
    version: str


class ModelStatus(Struct):
    """Whether a model is in memory."""

    loaded: bool
    state: str
    compute_type: str
    framework: str


class DeployedModel(Struct):
    """One of the models that are here."""

    model_id: str
    task: str
    framework: str
    compute_type: str
    state: str


class Box(Struct):
    """Two corners in pixels, or 0 to 1 when ``normalize`` was asked for; four of an oriented box."""

    x1: float
    y1: float
    x2: float
    y2: float
    x3: float | UnsetType = UNSET
    y3: float | UnsetType = UNSET
    x4: float | UnsetType = UNSET
    y4: float | UnsetType = UNSET


class Outline(Struct):
    """Points of a segment's outline."""

    x: list[float]
    y: list[float]


class Keypoints(Struct):
    """Points, and how surely each is seen where the model tells."""

    x: list[float]
    y: list[float]
    visible: list[float] | UnsetType = UNSET


class Item(Struct, kw_only=True):
    """An object, or a class of the whole picture, which has no box."""

    name: str
    class_: int = field(name="class")
    confidence: Score
    box: Box | UnsetType = UNSET
    track_id: int | UnsetType = UNSET
    segments: Outline | UnsetType = UNSET
    keypoints: Keypoints | UnsetType = UNSET


class PlatformItem(Item, kw_only=True):
    """An object, or a class of the whole picture; a class of pixels has its share of them and no confidence."""

    confidence: Score | UnsetType = UNSET  # type: ignore[assignment]
    pixel_ratio: Score | UnsetType = UNSET


class FlatItem(Struct, kw_only=True):
    """An object in the words of 2024; all coordinates from 0 to 1."""

    name: str
    class_: int = field(name="class")
    confidence: Score
    xcenter: float | UnsetType = UNSET
    ycenter: float | UnsetType = UNSET
    width: float | UnsetType = UNSET
    height: float | UnsetType = UNSET
    obb: Corners | UnsetType = UNSET
    segment: list[float] | UnsetType = UNSET
    keypoints: list[float] | UnsetType = UNSET
    track_id: int | UnsetType = UNSET


class LegacyAnswer(Struct):
    """The first generation's answer."""

    success: bool
    message: str
    data: list[Item]


class FlatAnswer(Struct):
    """The answer to ``response=l2``."""

    success: bool
    message: str
    data: list[FlatItem]


class LegacyRefusal(Struct):
    """What is wrong and what to do."""

    success: bool
    message: str
    data: dict[str, Any]


class Speed(Struct):
    """Milliseconds."""

    preprocess: float
    inference: float
    postprocess: float


class Image(Struct):
    """A picture, or a frame of a video."""

    results: list[Item]
    shape: Pair
    speed: Speed


class DepthMap(Struct):
    """A grey PNG: depth is pixel * max / 255, or / 65535 with more than 8 bits; 0 is where none is known."""

    shape: Pair
    encoding: str
    data: str
    min: float
    max: float
    bits: int


class ClassMap(Struct):
    """Each pixel's class as a grey PNG."""

    shape: Pair
    encoding: str
    data: str


class PlatformImage(Struct):
    """A picture, or a frame of a video."""

    results: list[PlatformItem]
    shape: Pair
    speed: Speed
    depth: DepthMap | UnsetType = UNSET
    semantic_mask: ClassMap | UnsetType = UNSET


class HubVersion(Struct):
    """Of the parts."""

    python: str
    torch: str
    torchvision: str
    ultralytics: str


class HubMetadata(Struct, rename="camel"):
    """Who answered; times in seconds."""

    image_count: int
    function_time_call: float
    function_time_alive: float
    model: str
    version: HubVersion


class HubAnswer(Struct):
    """An entry per picture or frame."""

    images: list[Image]
    metadata: HubMetadata


class HubRefusal(Struct):
    """What is wrong and what to do, twice."""

    error: str
    message: str


class PlatformVersion(Struct):
    """Of the parts."""

    python: str
    saccade: str


class PlatformMetadata(Struct, rename="camel"):
    """Who answered; times in seconds."""

    image_count: int
    function_time_call: float
    function_time_alive: float
    model: str
    version: PlatformVersion
    task: str
    class_names: list[str]


class PlatformAnswer(Struct):
    """An entry per picture or frame."""

    images: list[PlatformImage]
    metadata: PlatformMetadata


class PlatformRefusal(Struct, rename="camel"):
    """What is wrong and what to do; of a spent quota also when to try again."""

    error: str
    retry_after: int | UnsetType = UNSET
    reset_at: str | UnsetType = UNSET


class CocoResult(Struct):
    """An object in COCO's words: the answer to ``format=coco`` is a list of them."""

    image_id: int
    category_id: int
    bbox: Annotated[list[float], Meta(min_length=4, max_length=4)]
    score: float
    track_id: int | UnsetType = UNSET
    segmentation: list[list[float]] | UnsetType = UNSET
    keypoints: list[float] | UnsetType = UNSET


class Named(Struct):
    """Names of a model."""

    name: str


class HubModel(Struct):
    """A model as the HUB SDK expects it."""

    id: str
    meta: Named
    status: str
    task: str
    config: dict[str, Any]
    batch_size: str
    epochs: str
    imgsz: str
    patience: str
    device: str
    cache: str
    licence: str


class HubModelAnswer(Struct):
    """One model."""

    success: bool
    message: str
    data: HubModel


class HubModelsPage(Struct, rename="camel"):
    """Some of the models; ``last_record_id`` is the next call's ``last_doc_id``, and null behind the last of them."""

    results: list[HubModel]
    total: int
    last_record_id: str | None


class HubModelsAnswer(Struct):
    """A page of models, or all of them where no ``limit`` was asked for."""

    success: bool
    message: str
    data: HubModelsPage


class KeyIsGood(Struct):
    """The key is valid, or none is needed."""

    success: bool
    message: str
    data: dict[str, Any]


class Counted(Struct, rename="camel", kw_only=True):
    """What Ultralytics Platform counts, and nobody here."""

    star_count: int
    is_starred: bool
    created_at: str
    updated_at: str


class PlatformModel(Counted, rename="camel", kw_only=True):
    """A model as the Platform's SDK shows it."""

    id: str
    owner: str
    project: str
    project_name: str
    model: str
    name: str
    visibility: str
    status: str
    task: str
    license: str
    class_names: list[str]
    has_weights: bool
    metadata: dict[str, Any] | UnsetType = UNSET


class PlatformModelAnswer(Struct, rename="camel"):
    """One model."""

    model: PlatformModel
    is_owner: bool


class PlatformModelsAnswer(Struct):
    """All models."""

    models: list[PlatformModel]
    region: str


class PlatformProject(Counted, rename="camel", kw_only=True):
    """The one project, which holds all models."""

    id: str
    owner: str
    project: str
    name: str
    visibility: str
    model_count: int


class PlatformProjectsAnswer(Struct):
    """The one project."""

    projects: list[PlatformProject]
    total: int
    region: str


class Health(Struct):
    """``ok``, or why no calls are answered."""

    status: str


class ServerInfo(Struct):
    """What the server is and does; the engine's facts may change from version to version."""

    server: str
    version: str
    uptime_s: float
    default_model: str | None
    dialects: list[str]
    fronts: list[dict[str, int]]
    engine: dict[str, Any]


class UsedOnDay(Struct, frozen=True, gc=False):
    """Calls of one key to one model on one day, in UTC."""

    day: str
    key: str
    key_id: str
    model: str
    calls: int
    errors: int


class NamedKey(Struct):
    """Which key."""

    id: str
    name: str


class Usage(Struct):
    """What the key used and has left; null without a limit, and ``key`` where none is asked for."""

    key: NamedKey | None
    limit: int | None
    window_s: int | None
    used: int
    remaining: int | None
    reset: str | None
    days: list[UsedOnDay]


class AccessKey(Struct, kw_only=True):
    """A key without its secret. Times are seconds since 1970; ``limit`` null is the server's default, 0 none."""

    id: str
    name: str
    prefix: str
    scopes: list[str]
    models: list[str]
    endpoints: list[str]
    limit: int | None
    window_s: int | None
    created: float
    last_used: float | None
    expires: float | None


class NewKey(AccessKey, kw_only=True):
    """A key with its secret, which is shown this once."""

    key: str


class KeysAnswer(Struct):
    """All keys that are not revoked."""

    keys: list[AccessKey]


class RevokedKey(Struct):
    """The id of the key."""

    revoked: str


class DedicatedEndpoint(Struct, kw_only=True):
    """An endpoint as it stands; ``reason`` says why it is down, ``region_url`` where it is in its region."""

    id: str
    name: str
    model: str
    state: str
    reason: str
    url: str
    replicas: str
    replicas_now: int
    memory_bytes: int
    idle_stop_s: int
    calls_per_hour: int
    port: int
    hostname: str
    region: str
    revision: str
    created: float
    started: float
    region_url: str | UnsetType = UNSET


class EndpointsAnswer(Struct):
    """The endpoints that the key may use."""

    endpoints: list[DedicatedEndpoint]


class RemovedEndpoint(Struct):
    """Its name; ``note`` tells what may be left in a region that does not answer."""

    removed: str
    note: str | UnsetType = UNSET


class EndpointHealth(Struct, rename="camel"):
    """Whether it answered a picture, and how fast; ``error`` says why not."""

    healthy: bool
    status: int
    latency_ms: float
    error: str | UnsetType = UNSET


class LoggedRequest(Struct, rename="camel"):
    """A call in the log."""

    method: str
    url: str
    status: int
    latency_ms: float
    user_agent: str | UnsetType = UNSET


class LogEntry(Struct, rename="camel"):
    """A call or an event; ``severity`` is INFO, WARNING or ERROR."""

    timestamp: str
    severity: str
    message: str
    http_request: LoggedRequest | UnsetType = UNSET


class EndpointLogs(Struct, rename="camel"):
    """The latest entries first; ``next_page_token`` leads to older ones."""

    entries: list[LogEntry]
    next_page_token: str | UnsetType = UNSET


class EndpointMetrics(Struct, rename="camel"):
    """What it did: sums of the range, and series of points with ``timestamp`` and ``value``."""

    deployment_id: str
    region: str
    time_range: dict[str, str]
    summary: dict[str, float]
    time_series: dict[str, list[dict[str, Any]]]


class EndpointDay(Struct, rename="camel"):
    """Its last day in short, to ``sparkline=true``: requests by the hour, and the sums."""

    requests_24h: list[int] = field(name="requests24h")
    total_requests: int
    error_rate: float
    avg_latency_ms: float


class DeploymentResources(Struct, rename="camel"):
    """What a deployment may use; ``memory_gi`` 0 is no limit."""

    cpu: int
    memory_gi: float
    min_instances: int
    max_instances: int


class Deployment(Struct, rename="camel", kw_only=True):
    """An endpoint in the Platform's words; ``status_message`` says why it is down."""

    id: str
    owner: str
    project: str | UnsetType = UNSET
    model: str
    deployment: str
    name: str
    status: str
    status_message: str | UnsetType = UNSET
    region: str
    service_url: str
    resources: DeploymentResources
    created_at: str
    updated_at: str
    deployed_at: str | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class DeploymentsAnswer(Struct):
    """Those that were asked for; ``total`` counts also those over the limit."""

    deployments: list[Deployment]
    total: int
    region: str


class DeploymentAnswer(Struct):
    """One endpoint."""

    deployment: Deployment
    region: str


class NewDeployment(Struct):
    """Its id, its name, and that it is being created."""

    id: str
    deployment: str
    status: str
    message: str
    region: str


class ChangedDeployment(Struct):
    """How it stands after the change; while that still goes on, the status is 202."""

    success: bool
    status: str
    message: str
    deployment: str


class RemovedDeployment(Struct):
    """It is gone; ``message`` tells what may be left in a region that does not answer."""

    success: bool
    message: str | UnsetType = UNSET


class Session(Struct):
    """Who asks, and of whom: ``auth`` is off, open (no key was made yet) or key; ``key`` null where none was sent."""

    auth: str
    admin: bool
    key: NamedKey | None
    version: str
    device: str
    default_model: str | None


class MeasuredRegion(Struct, kw_only=True):
    """A region and how far away it is in milliseconds; null: it does not answer. This server is ``here``."""

    name: str
    place: str
    here: bool | UnsetType = UNSET
    url: str | UnsetType = UNSET
    mean_ms: float | None
    sd_ms: float | UnsetType | None = UNSET
    min_ms: float | UnsetType | None = UNSET
    max_ms: float | UnsetType | None = UNSET


class RegionsAnswer(Struct):
    """This server first, then the regions of its settings, nearest first; empty where there are none."""

    regions: list[MeasuredRegion]
