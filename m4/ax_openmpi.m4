# AX_OPENMPI: finds Open MPI, its internal headers and its component directory.
# SPDX-License-Identifier: BSD-3-Clause
#
# Sets MPICC, MPI_CFLAGS and MPI_LIBS (for MPI programs), OMPI_VERSION, OMPI_CPPFLAGS (internal headers), mcadir (where
# components are installed) and amcadir (where parameter sets are installed).
AC_DEFUN([AX_OPENMPI], [
  AC_ARG_WITH([mca-dir],
    [AS_HELP_STRING([--with-mca-dir=DIR],
       [install the Open MPI components into DIR (default: Open MPI's own component directory)])],
    [mcadir=$withval], [mcadir=])
  AC_ARG_WITH([amca-dir],
    [AS_HELP_STRING([--with-amca-dir=DIR],
       [install the parameter set for 'mpirun --am ninja' into DIR (default: Open MPI's own)])],
    [amcadir=$withval], [amcadir=])
  AC_PATH_PROGS([MPICC], [mpicc.openmpi mpicc])
  AC_PATH_PROGS([OMPI_INFO], [ompi_info])
  AS_IF([test -z "$MPICC" || test -z "$OMPI_INFO"],
    [AC_MSG_ERROR([Open MPI was not found: install openmpi-bin and libopenmpi-dev, or put mpicc and ompi_info on PATH])])
  AC_MSG_CHECKING([for the version of Open MPI])
  OMPI_VERSION=$("$OMPI_INFO" --version 2>/dev/null | sed -n 's/^Open MPI v//p')
  AC_MSG_RESULT([$OMPI_VERSION])
  AS_CASE([$OMPI_VERSION], [4.1.*|5.0.*], [],
    [AC_MSG_ERROR([Open MPI $OMPI_VERSION is not supported: this version builds for the series 4.1 and 5.0])])
  ompi_incdir=$("$MPICC" --showme:incdirs | tr ' ' '\n' | sed -n 's,/openmpi$,,p' | sort -u | head -n 1)
  test -n "$ompi_incdir" || ompi_incdir=$("$OMPI_INFO" --parsable --path incdir | sed 's/^path:incdir://')
  OMPI_CPPFLAGS="-I$ompi_incdir -I$ompi_incdir/openmpi"
  AX_OPENMPI_SOURCE
  AX_OPENMPI_HEADERS
  AS_IF([test -z "$mcadir"],
    [mcadir=$("$OMPI_INFO" --parsable --path pkglibdir | sed 's/^path:pkglibdir://')])
  # In series 5.0 it is PRRTE that reads them.
  AS_IF([test -z "$amcadir" && test "${OMPI_VERSION%%.*}" -ge 5],
    [amcadir=$(prte_info --path pkgdatadir 2>/dev/null | sed -n 's/^ *Pkgdatadir: *//p')
     test -z "$amcadir" || amcadir=$amcadir/amca-param-sets])
  AS_IF([test -z "$amcadir"],
    [amcadir=$("$OMPI_INFO" --parsable --path pkgdatadir | sed 's/^path:pkgdatadir://')/amca-param-sets])
  MPI_CFLAGS=$("$MPICC" --showme:compile)
  MPI_LIBS=$("$MPICC" --showme:link)
  AC_SUBST([MPI_CFLAGS])
  AC_SUBST([MPI_LIBS])
  AC_SUBST([MPICC])
  AC_SUBST([OMPI_INFO])
  AC_SUBST([OMPI_VERSION])
  AC_SUBST([OMPI_CPPFLAGS])
  # Its free lists swap 16 bytes at once, which the compiler must be allowed to do inline.
  AS_CASE([$host_cpu], [x86_64], [OMPI_CFLAGS=-mcx16], [OMPI_CFLAGS=])
  AC_SUBST([OMPI_CFLAGS])
  AC_SUBST([mcadir])
  AC_SUBST([amcadir])
])

# AX_OPENMPI_SOURCE: adds the sources named by --with-openmpi-source to OMPI_CPPFLAGS, after what is installed: that is
# what the running library was built from.
AC_DEFUN([AX_OPENMPI_SOURCE], [
  AC_ARG_WITH([openmpi-source],
    [AS_HELP_STRING([--with-openmpi-source=DIR],
       [take Open MPI's internal headers, where they are not installed, from the source tree DIR: of the version that is
        installed, and configured as it was])],
    [], [with_openmpi_source=no])
  AS_IF([test "$with_openmpi_source" != no], [
    AS_IF([test ! -f "$with_openmpi_source/opal/mca/btl/btl.h" || test ! -f "$with_openmpi_source/VERSION"],
      [AC_MSG_ERROR([--with-openmpi-source: '$with_openmpi_source' is not a source tree of Open MPI])])
    ompi_source=$(cd "$with_openmpi_source" && pwd)
    ompi_source_version=$(. "$ompi_source/VERSION" && echo "$major.$minor.$release")
    AS_CASE(["$OMPI_VERSION"], ["$ompi_source_version"*], [],
      [AC_MSG_ERROR([--with-openmpi-source: the sources are of Open MPI $ompi_source_version, but $OMPI_VERSION is installed])])
    AS_IF([test ! -f "$ompi_incdir/openmpi/opal_config.h" && test ! -f "$ompi_source/opal/include/opal_config.h"],
      [AC_MSG_ERROR([there is no opal_config.h under $ompi_incdir nor $ompi_source: configure the sources with the options that 'ompi_info --all' shows as 'Configure command line'])])
    OMPI_CPPFLAGS="$OMPI_CPPFLAGS -I$ompi_source -I$ompi_source/opal/include -I$ompi_source/ompi/include"
  ])
])

# AX_OPENMPI_HEADERS: checks that a component can be compiled; adds to OMPI_CPPFLAGS what it takes.
AC_DEFUN([AX_OPENMPI_HEADERS], [
  # Series 5.0 shows PMIx to components; Debian's is not on the default path.
  AS_CASE([$OMPI_VERSION], [5.*],
    [PKG_CHECK_MODULES([PMIX], [pmix >= 4.2], [OMPI_CPPFLAGS="$OMPI_CPPFLAGS $PMIX_CFLAGS"],
       [AC_CHECK_HEADER([pmix.h], [],
          [AC_MSG_ERROR([Open MPI 5.0 needs the headers of PMIx: install libpmix-dev])])])])
  ax_save_CPPFLAGS=$CPPFLAGS
  CPPFLAGS="$CPPFLAGS $OMPI_CPPFLAGS"
  # Debian 13's libopenmpi-dev lacks three headers that the others include.
  AS_CASE([$OMPI_VERSION], [5.*], [
    AC_MSG_CHECKING([whether Open MPI's headers of threads are there])
    AC_PREPROC_IFELSE([AC_LANG_SOURCE([
#include "opal_config.h"
#include MCA_threads_mutex_base_include_HEADER
      ])],
      [AC_MSG_RESULT([yes])],
      [AC_MSG_RESULT([no, we bring our own])
       OMPI_CPPFLAGS="$OMPI_CPPFLAGS "'-I$(top_srcdir)/ompi-mca/common/ompi5'
       CPPFLAGS="$CPPFLAGS -I$srcdir/ompi-mca/common/ompi5"])])
  AC_CHECK_HEADER([opal/mca/btl/btl.h], [],
    [AC_MSG_ERROR([Open MPI's internal headers were not found under $ompi_incdir: install libopenmpi-dev, or get the sources of Open MPI $OMPI_VERSION and say --with-openmpi-source=DIR])],
    [#include "opal_config.h"])
  AC_CHECK_HEADER([opal/mca/crs/crs.h], [have_ompi_crs=yes], [have_ompi_crs=no],
    [#include "opal_config.h"])
  AM_CONDITIONAL([HAVE_OMPI_CRS], [test "$have_ompi_crs" = yes])
  # AX_OPENMPI's users compile components without config.h.
  AS_IF([test "$have_ompi_crs" = yes], [OMPI_CPPFLAGS="$OMPI_CPPFLAGS -DHAVE_OMPI_CRS"])
  CPPFLAGS=$ax_save_CPPFLAGS
])
