"""Types that the codec tests store, defined where an application would define them."""

from __future__ import annotations

import enum
from dataclasses import InitVar, dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    PrivateAttr,
    RootModel,
    SecretStr,
    computed_field,
    field_validator,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

T = TypeVar("T")


class Colour(enum.Enum):
    RED = 1
    GREEN = "g"
    ALIAS = 1
    PAIR = (1, 2)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Name(str, enum.Enum):
    A = "a"
    B = "b"


class Permission(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


class IntPermission(enum.IntFlag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: Any = 0


class Address(TypedDict):
    street: str
    since: datetime


@dataclass
class Plain:
    a: int
    b: Any = None


@dataclass(frozen=True)
class Frozen:
    a: Any
    b: tuple[int, ...] = ()


@dataclass(slots=True)
class Slotted:
    a: Any
    b: Any = field(default=3, init=False)


@dataclass(frozen=True, slots=True)
class FrozenSlotted:
    a: Any


@dataclass
class Child(Plain):
    c: Decimal = Decimal(0)


@dataclass
class Box(Generic[T]):
    held: T


@dataclass
class WithPostInit:
    a: int
    start: InitVar[int]
    total: int = field(init=False)

    def __post_init__(self, start: int) -> None:
        self.total = self.a + start
        self.note = "set in __post_init__"

    @cached_property
    def doubled(self) -> int:
        return self.total * 2


@pydantic_dataclass
class Checked:
    a: int
    at: datetime


class User(BaseModel):
    id: int
    email: str
    anything: Any = None


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=False)
    user_id: int = Field(alias="userId")
    other: int = Field(validation_alias=AliasChoices("o", "other"), serialization_alias="O")


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


class Private(BaseModel):
    a: int
    _b: Any = PrivateAttr(default=1)


class Computed(BaseModel):
    side: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return self.side**2

    @cached_property
    def volume(self) -> int:
        return self.side**3


class NotIdempotent(BaseModel):
    """Its validator splits a text, and refuses the resulting list."""

    parts: list[str]

    @field_validator("parts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError("expected text")
        return value.split(",")


class Growing(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def _grow(cls, value: int) -> int:
        return value + 1


class WithSecret(BaseModel):
    password: SecretStr
    home: HttpUrl


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    tricks: list[str] = []


class Owner(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    others: list[Cat | Dog] = []


class Crate(BaseModel, Generic[T]):
    held: T


class Numbers(RootModel[list[int]]):
    pass


class FrozenModel(BaseModel):
    model_config = ConfigDict(frozen=True)
    a: int


class StrictModel(BaseModel):
    model_config = ConfigDict(strict=True)
    at: datetime
    level: Level


class Holder:
    """A namespace for nested classes."""

    class Inner(BaseModel):
        a: int

    class Kind(enum.Enum):
        X = 1


class NotStorable:
    pass
