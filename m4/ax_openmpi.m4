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
  AS_CASE([$OMPI_VERSION], [4.1.*], [],
    [AC_MSG_ERROR([Open MPI $OMPI_VERSION is not supported: this version builds for the 4.1 series])])
  ompi_incdir=$("$MPICC" --showme:incdirs | tr ' ' '\n' | sed -n 's,/openmpi$,,p' | sort -u | head -n 1)
  test -n "$ompi_incdir" || ompi_incdir=$("$OMPI_INFO" --parsable --path incdir | sed 's/^path:incdir://')
  OMPI_CPPFLAGS="-I$ompi_incdir -I$ompi_incdir/openmpi"
  ax_save_CPPFLAGS=$CPPFLAGS
  CPPFLAGS="$CPPFLAGS $OMPI_CPPFLAGS"
  AC_CHECK_HEADER([opal/mca/btl/btl.h], [],
    [AC_MSG_ERROR([Open MPI's internal headers were not found under $ompi_incdir: install libopenmpi-dev])],
    [#include "opal_config.h"])
  AC_CHECK_HEADER([opal/mca/crs/crs.h], [have_ompi_crs=yes], [have_ompi_crs=no],
    [#include "opal_config.h"])
  AM_CONDITIONAL([HAVE_OMPI_CRS], [test "$have_ompi_crs" = yes])
  # AX_OPENMPI's users compile components without config.h.
  AS_IF([test "$have_ompi_crs" = yes], [OMPI_CPPFLAGS="$OMPI_CPPFLAGS -DHAVE_OMPI_CRS"])
  CPPFLAGS=$ax_save_CPPFLAGS
  AS_IF([test -z "$mcadir"],
    [mcadir=$("$OMPI_INFO" --parsable --path pkglibdir | sed 's/^path:pkglibdir://')])
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
